// Command healthcheck runs the service healthcheck as a process of its own.
package main

import (
	"tongan.dev/pkg/serve"
	"tongan.dev/services/healthcheck"
)

func main() {
	serve.CollectRarely()
	serve.Main("healthcheck", healthcheck.Run)
}
