package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// usersCmd keeps who may call.
type usersCmd struct {
	Add      usersAddCmd      `cmd:"" help:"Add a caller and write the private part of its key to a file."`
	List     usersListCmd     `cmd:"" help:"List the callers."`
	Rotate   usersRotateCmd   `cmd:"" help:"Give a caller another key; the old one ends at once."`
	Revoke   usersRevokeCmd   `cmd:"" help:"End a caller's access at once."`
	Services usersServicesCmd `cmd:"" help:"Make the keys of the services, for a bus of one's own."`
}

// provenance says that the caller does this now. Who that is, the service knows.
func provenance(admCode string) *eventv1.Provenance {
	return &eventv1.Provenance{
		CommandId: uuid.NewString(), OccurredAt: timestamppb.Now(), AdmCode: admCode,
		SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_DESK,
	}
}

// keyFlags say what becomes of the private part of a new key. It is shown or written once and stored nowhere else.
type keyFlags struct {
	Out   string `type:"path" help:"File for the private part of the key, mode 0600. Default: the caller's id with .nk in this folder."`
	Print bool   `help:"Print the private part instead of writing it to a file."`
}

// make makes a key and hands its private part over.
func (f keyFlags) make(id string) (*access.Credentials, error) {
	if !f.Print {
		path := f.path(id)
		c, err := newKey(path)
		if err == nil {
			fmt.Println(path)
		}
		return c, err
	}
	c, err := access.NewCredentials()
	if err == nil {
		err = c.Print(os.Stdout)
	}
	return c, err
}

func (f keyFlags) path(id string) string { return cmp.Or(f.Out, id+".nk") }

// drop removes what make wrote, for a key that nobody got to know.
func (f keyFlags) drop(id string) error {
	if f.Print {
		return nil
	}
	return os.Remove(f.path(id))
}

// usersAddCmd adds a caller.
type usersAddCmd struct {
	callerFlags
	serve.DistrictFlags
	keyFlags
	ID          string `arg:"" help:"Opaque id of the caller."`
	Role        string `required:"" help:"What the caller does: ${roles}."`
	Org         string `required:"" help:"Opaque id of the organisation the caller belongs to."`
	District    string `help:"District the caller is bound to; default: none."`
	Institution string `help:"Institution the caller is bound to; default: none."`
	NKey        string `name:"nkey" help:"Public part of a key that the caller made; then none is made here."`
	NoKey       bool   `name:"no-key" help:"The caller does not connect: others enter what they did."`
}

// Run makes the key, adds the caller, and prints where the key is.
func (c *usersAddCmd) Run(ctx context.Context) (err error) {
	role, err := parseRole(c.Role)
	if err != nil {
		return err
	}
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	key := c.NKey
	if key == "" && !c.NoKey {
		made, err := c.make(c.ID)
		if err != nil {
			return err
		}
		key = made.Public()
	}
	err = insistBriefly(ctx, nc, subject.Caller.Command("add"), &auditv1.AddCaller{
		Provenance: provenance(c.Districts[0]), CallerId: c.ID, Nkey: key, Role: role, OrgId: c.Org, AdmCode: c.District, InstitutionId: c.Institution,
	})
	if isRefused(err) && c.NKey == "" && !c.NoKey {
		err = errors.Join(err, c.drop(c.ID))
	}
	return err
}

// parseRole finds a role by its name without the prefix.
func parseRole(name string) (auditv1.Role, error) {
	n, ok := auditv1.Role_value["ROLE_"+strings.ToUpper(name)]
	if !ok || n == 0 {
		return 0, fmt.Errorf("--role: there is no such role; it is one of %s", roleNames())
	}
	return auditv1.Role(n), nil
}

// roleNames lists the roles.
func roleNames() string {
	names := make([]string, 0, len(access.Roles()))
	for _, r := range access.Roles() {
		names = append(names, strings.TrimPrefix(r.String(), "ROLE_"))
	}
	return strings.Join(names, ", ")
}

// usersRotateCmd replaces a caller's key.
type usersRotateCmd struct {
	callerFlags
	serve.DistrictFlags
	keyFlags
	ID string `arg:"" help:"Opaque id of the caller."`
}

// Run makes another key and prints where it is. Who rotates the key they connect with loses that connection: the reply comes over a new one.
func (c *usersRotateCmd) Run(ctx context.Context) error {
	via, err := c.caller()
	if err != nil {
		return err
	}
	nc, err := via.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	key, err := c.make(c.ID)
	if err != nil {
		return err
	}
	command := &auditv1.RotateCallerKey{Provenance: provenance(c.Districts[0]), CallerId: c.ID, Nkey: key.Public()}
	try, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = request(try, nc, subject.Caller.Command("rotate"), command, newReply())
	if err != nil && !isRefused(err) {
		if again, dialled := via.as(key); dialled == nil {
			defer again.Close()
			err = insistBriefly(ctx, again, subject.Caller.Command("rotate"), command)
		}
	}
	if isRefused(err) {
		err = errors.Join(err, c.drop(c.ID))
	}
	return err
}

// usersRevokeCmd ends a caller's access.
type usersRevokeCmd struct {
	callerFlags
	serve.DistrictFlags
	ID string `arg:"" help:"Opaque id of the caller."`
}

// Run revokes the caller.
func (c *usersRevokeCmd) Run(ctx context.Context) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	return insistBriefly(ctx, nc, subject.Caller.Command("revoke"), &auditv1.RevokeCaller{Provenance: provenance(c.Districts[0]), CallerId: c.ID})
}

// usersListCmd lists the callers.
type usersListCmd struct{ callerFlags }

// Run prints a line for each caller.
func (c *usersListCmd) Run(ctx context.Context) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tROLE\tORGANISATION\tDISTRICT\tINSTITUTION\tKEY")
	for q := (&auditv1.ListCallers{}); ; {
		page := &auditv1.Callers{}
		if err := request(ctx, nc, subject.Caller.Query("list"), q, page); err != nil {
			return err
		}
		for _, u := range page.GetCallers() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", u.GetCallerId(), strings.TrimPrefix(u.GetRole().String(), "ROLE_"), u.GetOrgId(),
				u.GetAdmCode(), u.GetInstitutionId(), u.GetNkey())
			q.After = u.GetCallerId()
		}
		if !page.GetMore() {
			return w.Flush()
		}
	}
}

// insistBriefly sends a command until it is answered, for at most half a minute.
func insistBriefly(ctx context.Context, nc *nats.Conn, subj string, command proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return insist(ctx, nc, subj, command, newReply())
}

// enrol adds callers with new keys, or gives other keys to those that are there, and connects as each of them.
func enrol(ctx context.Context, via *caller, admCode string, callers []access.Caller) (conns map[string]*nats.Conn, err error) {
	operator, err := via.connect()
	if err != nil {
		return nil, err
	}
	defer operator.Close()
	keys := make([]*access.Credentials, len(callers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(senders)
	for i, c := range callers {
		g.Go(func() error {
			var err error
			if keys[i], err = access.NewCredentials(); err != nil {
				return err
			}
			err = insistBriefly(gctx, operator, subject.Caller.Command("add"), &auditv1.AddCaller{
				Provenance: provenance(admCode), CallerId: c.ID, Nkey: keys[i].Public(), Role: c.Role, OrgId: c.Org, AdmCode: c.AdmCode, InstitutionId: c.InstitutionID,
			})
			if refused, is := errors.AsType[*refusal](err); is && refused.code == "409" { // the caller is there already
				err = insistBriefly(gctx, operator, subject.Caller.Command("rotate"), &auditv1.RotateCallerKey{
					Provenance: provenance(admCode), CallerId: c.ID, Nkey: keys[i].Public(),
				})
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	conns = make(map[string]*nats.Conn)
	for i, c := range callers {
		nc, err := via.as(keys[i])
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns[c.ID] = nc
	}
	return conns, nil
}

func closeAll(conns map[string]*nats.Conn) {
	for _, nc := range conns {
		nc.Close()
	}
}
