package main

import (
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"tongan.dev/pkg/subject"
)

// decodeCmd turns an event into JSON for people.
type decodeCmd struct {
	Subject string `arg:"" help:"Subject the message came on: it says which event it is."`
}

// Run reads a message from standard input and prints it as JSON. Sealed fields stay sealed.
func (c *decodeCmd) Run() error {
	payload, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	text, err := decode(c.Subject, payload)
	if err != nil {
		return err
	}
	_, err = fmt.Println(text)
	return err
}

func decode(subj string, payload []byte) (string, error) {
	p, err := subject.ParseEvent(subj)
	if err != nil {
		return "", fmt.Errorf("decode %s: %w", subj, err)
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByName(p.Message())
	if err != nil {
		return "", fmt.Errorf("decode %s: this build does not know %s", subj, p.Message())
	}
	m := mt.New().Interface()
	if err := proto.Unmarshal(payload, m); err != nil {
		return "", fmt.Errorf("decode %s: the payload is not a %s", subj, p.Message())
	}
	b, err := protojson.Marshal(m)
	return string(b), err
}
