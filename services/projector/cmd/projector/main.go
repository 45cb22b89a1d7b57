// Command projector runs the projector as a process of its own.
package main

import (
	"tongan.dev/pkg/serve"
	"tongan.dev/services/projector"
)

func main() { serve.Main("projector", projector.Serve) }
