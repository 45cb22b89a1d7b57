// Command audit runs the service audit as a process of its own.
package main

import (
	"tongan.dev/pkg/serve"
	"tongan.dev/services/audit"
)

func main() {
	serve.CollectRarely()
	serve.Main("audit", audit.Run)
}
