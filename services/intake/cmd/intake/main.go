// Command intake runs the service intake as a process of its own.
package main

import (
	"tongan.dev/pkg/serve"
	"tongan.dev/services/intake"
)

func main() {
	serve.CollectRarely()
	serve.Main("intake", intake.Run)
}
