package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// nodeConf is the configuration of a node: that of deploy/nats, and in a cluster the routes. Each node reaches the others through the doors
// in front of them, and nobody is told of another way.
var nodeConf = template.Must(template.New("").Parse(`server_name: {{.Name}}
listen: 127.0.0.1:{{.Port}}
max_payload: 1MB
jetstream { store_dir: "{{.Store}}", max_file_store: 16GB, sync_interval: always }
{{if .Routes}}cluster { name: tongan, listen: 127.0.0.1:{{.RoutePort}}, no_advertise: true, pool_size: -1, routes: [{{.Routes}}] }
{{end}}include access.conf
`))

func (f *fleet) startBus(ctx context.Context) error {
	at, err := root(ctx)
	if err != nil {
		return err
	}
	access, err := os.ReadFile(filepath.Join(at, "deploy", "nats", "access.conf"))
	if err != nil {
		return fmt.Errorf("accounts of the bus: %w", err)
	}
	if err := os.WriteFile(f.path("access.conf"), access, 0o600); err != nil {
		return fmt.Errorf("accounts of the bus: %w", err)
	}
	routePorts := make([]int, f.nodes)
	for n := range f.nodes {
		port, err := freePort()
		if err != nil {
			return err
		}
		f.ports = append(f.ports, port)
		if routePorts[n], err = freePort(); err != nil {
			return err
		}
	}
	for from := range f.nodes {
		var routes []string
		for to := range f.nodes {
			if from == to || f.nodes == 1 {
				continue
			}
			d, err := newDoor(fmt.Sprintf("127.0.0.1:%d", routePorts[to]))
			if err != nil {
				return err
			}
			f.routes[Node(from+1)+" "+Node(to+1)] = d
			routes = append(routes, `"nats://`+d.addr()+`"`)
		}
		var conf strings.Builder
		if err := nodeConf.Execute(&conf, map[string]any{
			"Name": Node(from + 1), "Port": f.ports[from], "Store": f.path("bus", Node(from+1)), "RoutePort": routePorts[from], "Routes": strings.Join(routes, ", "),
		}); err != nil {
			return fmt.Errorf("configuration of %s: %w", Node(from+1), err)
		}
		file := f.path(Node(from+1) + ".conf")
		if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
			return fmt.Errorf("configuration of %s: %w", Node(from+1), err)
		}
		f.supervise(Node(from+1), program(filepath.Join(f.bin, "nats-server"), f.path("log", Node(from+1)), f.env, "-c", file))
	}
	return nil
}

// busAddrs are the addresses of the nodes.
func (f *fleet) busAddrs() []string {
	out := make([]string, f.nodes)
	for i, p := range f.ports {
		out[i] = fmt.Sprintf("127.0.0.1:%d", p)
	}
	return out
}
