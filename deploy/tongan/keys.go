package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"tongan.dev/pkg/access"
)

// serviceKeys are the keys of the bus's own users, and the one that signs whom it lets in beside them.
type serviceKeys struct {
	dir    string
	users  map[string]*access.Credentials
	issuer *access.Issuer
}

// issuerName is what the issuer's key is called among those of the users.
const issuerName = "issuer"

// loadKeys loads the keys from a folder, a file for each; those that are missing are made.
func loadKeys(dir string) (k *serviceKeys, err error) {
	k = &serviceKeys{dir: dir, users: make(map[string]*access.Credentials)}
	for _, name := range userNames() {
		if k.users[name], err = access.Ensure(k.path(name)); err != nil {
			return nil, err
		}
	}
	k.issuer, err = access.EnsureIssuer(k.path(issuerName))
	return k, err
}

func (k *serviceKeys) path(name string) string { return filepath.Join(k.dir, name+".nk") }

// userNames are the names of the bus's users.
func userNames() []string {
	names := []string{access.System}
	for _, u := range access.Users() {
		names = append(names, u.Name)
	}
	return names
}

// keyVariable is the name under which the bus's configuration in deploy/nats expects a user's public key.
func keyVariable(user string) string { return "TONGAN_NKEY_" + strings.ToUpper(user) }

// usersServicesCmd makes the keys of the services.
type usersServicesCmd struct {
	Dir string `arg:"" type:"path" help:"Folder for the files, one for each service, mode 0600."`
}

// Run makes the keys that are missing and prints the public parts as the environment of the nats-server.
func (c *usersServicesCmd) Run() error {
	keys, err := loadKeys(c.Dir)
	if err != nil {
		return err
	}
	for _, name := range userNames() {
		fmt.Printf("%s=%s\n", keyVariable(name), keys.users[name].Public())
	}
	_, err = fmt.Printf("%s=%s\n", keyVariable(issuerName), keys.issuer.Public())
	return err
}

// newKey makes credentials and writes them to a new file.
func newKey(path string) (*access.Credentials, error) {
	c, err := access.NewCredentials()
	if err != nil {
		return nil, err
	}
	err = c.Save(path)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: remove it or name another with --out", err)
	}
	return c, err
}
