module tongan.dev/proto

go 1.26.7

tool google.golang.org/protobuf/cmd/protoc-gen-go

require (
	buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go v1.36.12-20260825204119-511051f7f437.1
	google.golang.org/protobuf v1.36.12
)
