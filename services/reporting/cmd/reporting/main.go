// Command reporting runs the service reporting as a process of its own.
package main

import (
	"tongan.dev/pkg/serve"
	"tongan.dev/services/reporting"
)

func main() {
	serve.CollectRarely()
	serve.Main("reporting", reporting.Run)
}
