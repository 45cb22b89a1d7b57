package services_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// named is a test as a README names it, and the row of a table if it is one; elsewhere is the folder, if it is another one, that follows.
var (
	named     = regexp.MustCompile("`(Test[A-Z]\\w*)(?:/([^`]+))?`")
	elsewhere = regexp.MustCompile("^(?:(?:,| and) `Test[^`]+`)*\\s+in\\s+`((?:services|pkg|deploy)(?:/[a-z/]+)?)`")
)

// mechanisms is the README of the packages that services share. It names the tests of decisions, not every test.
const mechanisms = "../pkg/README.md"

// ruleRow is a row of a README's table of rules.
var ruleRow = regexp.MustCompile(`(?ms)^\| Rule \| Test that holds it \|\n\|[-|]+\|\n(.*?)\n\n`)

// Every test that a README names exists in its folder or below, every rule names one, and every test of a service is named. A name after a slash is a text in
// the same file.
func TestEveryRuleNamesATestThatExists(t *testing.T) {
	t.Parallel()
	services, err := filepath.Glob("*/README.md")
	if err != nil || len(services) < 5 {
		t.Fatalf("only %d READMEs are found (%v)", len(services), err)
	}
	for _, readme := range append(services, mechanisms) {
		t.Run(filepath.ToSlash(readme), func(t *testing.T) {
			t.Parallel()
			read := make(map[string][]testFile)
			below := func(folder string) []testFile {
				if read[folder] == nil {
					read[folder] = testsBelow(t, folder)
				}
				return read[folder]
			}
			content, err := os.ReadFile(readme)
			if err != nil {
				t.Fatal(err)
			}
			found := named.FindAllSubmatchIndex(content, -1)
			if len(found) == 0 {
				t.Error("it names no test")
			}
			for _, at := range found {
				folder := filepath.Dir(readme)
				if m := elsewhere.FindSubmatch(content[at[1]:]); m != nil {
					folder = filepath.Join("..", string(m[1]))
				}
				test, row, _ := strings.Cut(string(content[at[0]+1:at[1]-1]), "/")
				if why := missing(below(folder), test, row); why != "" {
					t.Errorf("%s, which it names, %s below %s", strings.Trim(test+"/"+row, "/"), why, folder)
				}
			}
			for _, f := range below(filepath.Dir(readme)) {
				for test, is := range f.tests {
					if is && readme != mechanisms && strings.HasPrefix(test, "Test") && test != "TestMain" && !bytes.Contains(content, []byte("`"+test+"`")) && !bytes.Contains(content, []byte("`"+test+"/")) {
						t.Errorf("it does not name %s", test)
					}
				}
			}
			for _, table := range ruleRow.FindAllStringSubmatch(string(content)+"\n\n", -1) {
				for row := range strings.SplitSeq(table[1], "\n") {
					if !named.MatchString(row) {
						t.Errorf("this rule names no test: %s", row)
					}
				}
			}
		})
	}
}

// testFile is a file of tests: its functions and its texts.
type testFile struct{ tests, texts map[string]bool }

// missing says why a test is not among those of some files, empty if it is.
func missing(files []testFile, test, row string) string {
	why := "is not there"
	for _, f := range files {
		if !f.tests[test] {
			continue
		}
		_, rest, _ := strings.Cut(row, " ") // of a row whose first word the test fills in
		if row == "" || f.texts[row] || f.texts["%v "+rest] {
			return ""
		}
		why = "has no such row"
	}
	return why
}

func testsBelow(t *testing.T, folder string) (files []testFile) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f := testFile{make(map[string]bool), make(map[string]bool)}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				f.tests[n.Name.Name] = n.Recv == nil
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					f.texts[text] = true
				}
			}
			return true
		})
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
