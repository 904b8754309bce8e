#!/bin/sh
# Generates the code of the client into gen/. Needs go and protoc; PROTOC names another one, such as
# "python -m grpc_tools.protoc".
set -e
cd "$(dirname "$0")"
proto=../../../proto
module=github.com/datas3t/datas3t/gen/go
GOBIN="$PWD/bin" go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.6
GOBIN="$PWD/bin" go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1
mkdir -p gen
PATH="$PWD/bin:$PATH" ${PROTOC:-protoc} -I "$proto" -I ../../../third_party/googleapis \
  --go_out=gen --go_opt=module="$module" --go-grpc_out=gen --go-grpc_opt=module="$module" "$proto"/datas3t/v1/*.proto
[ -f gen/go.mod ] || (cd gen && go mod init "$module")
go mod tidy
