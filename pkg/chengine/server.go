package chengine

import "strings"

// ServerUsers returns a file for the folder users.d of a ClickHouse server: the
// users with the rights they have in the embedded engine. Their passwords are
// not in it; the server takes their hashes from its environment, see
// PasswordEnv. Nobody is kept out by address: that is for the server's firewall.
func ServerUsers(users []User) (string, error) {
	if err := validateUsers(users); err != nil {
		return "", err
	}
	return render("server_users.xml.tmpl", map[string]any{"Users": users})
}

// ServerConfig returns a file for the folder config.d of a ClickHouse server:
// what of the embedded engine's configuration is not about its being small.
func ServerConfig() (string, error) {
	return render("server_config.xml.tmpl", nil)
}

// PasswordEnv returns the name of the variable in a server's environment that
// has the SHA-256 of the user's password, 64 hexadecimal digits.
func PasswordEnv(user string) string {
	return "TONGAN_CLICKHOUSE_" + strings.ToUpper(user) + "_SHA256"
}
