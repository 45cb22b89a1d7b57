// Command outreach runs the service outreach as a process of its own.
package main

import (
	"tongan.dev/pkg/serve"
	"tongan.dev/services/outreach"
)

func main() {
	serve.CollectRarely()
	serve.Main("outreach", outreach.Run)
}
