package projector

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
)

// serverFiles is the folder of what a ClickHouse server of one's own is given.
const serverFiles = "../../deploy/clickhouse"

// serverUsers are the users of the files: those of the default deployment.
func serverUsers() []chengine.User {
	return Users(districts, func(string) string { return "" })
}

func TestServerFilesAreGenerated(t *testing.T) {
	t.Parallel()
	usersFile, err := chengine.ServerUsers(serverUsers())
	if err != nil {
		t.Fatal(err)
	}
	configFile, err := chengine.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"users.d/tongan.xml": usersFile, "config.d/tongan.xml": configFile} {
		path := filepath.Join(serverFiles, name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v; -update writes it", err)
		}
		if diff := cmp.Diff(text, string(have)); diff != "" {
			t.Errorf("%s is not what the code says; if that is meant, -update rewrites it: %s", name, diff)
		}
	}
}

// server is a folder with the configuration of a server, as it is delivered, and the generated files installed in it.
func server(t *testing.T) (configFile string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config.xml", "<clickhouse><users_config>"+dir+"/users.xml</users_config></clickhouse>")
	write("users.xml", `<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default><password/>
		<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota><access_management>1</access_management></default></users></clickhouse>`)
	for _, name := range []string{"users.d/tongan.xml", "config.d/tongan.xml"} {
		text, err := os.ReadFile(filepath.Join(serverFiles, name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, string(text))
	}
	return filepath.Join(dir, "config.xml")
}

// hashes is the environment the files ask for.
func hashes() []string {
	var env []string
	for _, u := range serverUsers() {
		env = append(env, fmt.Sprintf("%s=%x", chengine.PasswordEnv(u.Name), sha256.Sum256([]byte(u.Name))))
	}
	return env
}

func TestServerTakesTheFiles(t *testing.T) {
	t.Parallel()
	got, err := chtest.Local(t, server(t), hashes(), `
		SELECT * FROM (SELECT 'users', countIf(toString(auth_type) = '[\'sha256_password\']'), count() FROM system.users WHERE name != 'default'
		UNION ALL SELECT 'filtered views', uniqExact(database, table), uniqExact(short_name) FROM system.row_policies
		UNION ALL SELECT 'other filters', countIf(select_filter != concat('adm_code = \'', substring(short_name, 9), '\'')), 0 FROM system.row_policies
		UNION ALL SELECT 'quotas', uniqExact(quota_name), countIf(max_queries = 600) FROM system.quota_limits WHERE quota_name LIKE 'analyst%'
		UNION ALL SELECT user_name, countIf(access_type = 'SELECT'), count() FROM system.grants WHERE user_name LIKE 'analyst_44070%' OR user_name = 'projector' GROUP BY user_name
		UNION ALL SELECT 'profiles', countIf(name LIKE 'tongan_%'), count() FROM system.settings_profiles
		UNION ALL SELECT name, 1, 1 FROM system.merge_tree_settings WHERE name LIKE 'fsync%' AND value = '1')
		ORDER BY ALL`)
	want := `analyst_440703	25	25
analyst_440704	25	25
analyst_440705	25	25
filtered views	24	7
fsync_after_insert	1	1
fsync_part_directory	1	1
other filters	0	0
profiles	3	4
projector	1	2
quotas	8	8
users	11	11
`
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Without the password of a user the server does not start; it does not start with an empty one either.
func TestServerWantsAllPasswords(t *testing.T) {
	t.Parallel()
	for i, broken := range map[int][]string{0: hashes()[1:], 1: append(hashes()[1:], chengine.PasswordEnv(UserMigration)+"=")} {
		if got, err := chtest.Local(t, server(t), broken, "SELECT 'started'"); err == nil || !strings.Contains(err.Error(), "migration") {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
}
