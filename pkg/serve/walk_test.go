package serve

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// nested is a message of a type that holds messages of its own type, some of them two levels down and in lists.
var nested = &descriptorpb.DescriptorProto{
	Name: new("a"),
	NestedType: []*descriptorpb.DescriptorProto{
		{Field: []*descriptorpb.FieldDescriptorProto{{Name: new("b")}, {Number: new(int32(1))}}},
		{NestedType: []*descriptorpb.DescriptorProto{{Name: new("c")}}},
	},
	ReservedName: []string{"list of text"},
}

func TestWalkFindsFieldsAtAnyDepthWithTheirPlaces(t *testing.T) {
	t.Parallel()
	names := &fields{about: func(fd protoreflect.FieldDescriptor) bool {
		return fd.Name() == "name" || fd.Name() == "reserved_name"
	}}
	for range 2 { // the second time from what was found out the first time
		var got []string
		err := names.walk(nil, nested.ProtoReflect(), func(at *place, in protoreflect.Message, v protoreflect.Value) error {
			if in.Get(at.field).String() != v.String() {
				t.Errorf("%s is said to stand in %v", at, in)
			}
			got = append(got, at.String()+"="+v.String())
			return nil
		})
		want := []string{"name=a", "nested_type[0].field[0].name=b", "nested_type[1].nested_type[0].name=c"}
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("found are %v (%v), want %v", got, err, want)
		}
	}
}

func TestWalkEndsAtTheFirstErrorAndDoesNotLookIntoWhatItShowed(t *testing.T) {
	t.Parallel()
	inner := &fields{about: func(fd protoreflect.FieldDescriptor) bool { return fd.Name() == "nested_type" }}
	stop := errors.New("stop")
	seen := 0
	err := inner.walk(nil, nested.ProtoReflect(), func(*place, protoreflect.Message, protoreflect.Value) error {
		if seen++; seen == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || seen != 2 {
		t.Errorf("%d were shown, %v", seen, err)
	}
	seen = 0
	if err := inner.walk(nil, nested.ProtoReflect(), func(*place, protoreflect.Message, protoreflect.Value) error { seen++; return nil }); err != nil || seen != 2 {
		t.Errorf("%d were shown (%v), want those of the first level", seen, err)
	}
}
