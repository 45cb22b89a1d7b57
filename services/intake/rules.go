package intake

import (
	"fmt"
	"os"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/protojson"

	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/rules"
)

// loadRules reads a file of rule sets, JSON of tongan.intake.v1.RuleSets; without one the rules of the project hold.
func loadRules(path string) (rules.Rules, error) {
	if path == "" {
		return rules.New(rules.Project())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return rules.Rules{}, fmt.Errorf("rules %s: %w", path, err)
	}
	sets := &intakev1.RuleSets{}
	if err := protojson.Unmarshal(text, sets); err != nil {
		return rules.Rules{}, fmt.Errorf("rules %s: %w", path, err)
	}
	if err := protovalidate.Validate(sets); err != nil {
		return rules.Rules{}, fmt.Errorf("rules %s: %w", path, err)
	}
	r, err := rules.New(sets)
	if err != nil {
		return rules.Rules{}, fmt.Errorf("rules %s: %w", path, err)
	}
	return r, nil
}
