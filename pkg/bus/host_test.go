package bus

import "testing"

// The monitoring pages ask nobody who they are: they stay on this machine where the bus does not.
func TestMonitoringPagesStayOnThisMachine(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"": "127.0.0.1", "127.0.0.2": "127.0.0.2", "::1": "::1", "localhost": "localhost",
		"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "192.0.2.1": "127.0.0.1", "bus": "127.0.0.1",
	} {
		o, err := options(Config{Host: host})
		if err != nil {
			t.Fatal(err)
		}
		if o.HTTPHost != want || o.HTTPPort == 0 || o.HTTPSPort != 0 {
			t.Errorf("of a bus on %q they are at %s", host, o.HTTPHost)
		}
	}
}
