// Package chaos breaks a running system on purpose, by a plan that one seed gives, and checks afterwards, command by command, that nothing
// was lost, nothing counted twice and nothing torn.
package chaos
