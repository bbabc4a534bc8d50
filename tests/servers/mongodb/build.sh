#!/bin/sh
# Build this directory's program into .test-servers, with FerretDB as the patches change it.
set -eu
cd "$(dirname "$0")"
built=../../../.test-servers
changed=$built/ferretdb-changed
trap 'rm -rf "$changed"' EXIT

go mod download
rm -rf "$changed"
mkdir -p "$changed"
# From the module cache: go.sum has vouched for it.
cp -R "$(go list -m -f '{{.Dir}}' github.com/FerretDB/FerretDB)/." "$changed"
chmod -R u+w "$changed"
for each in *.patch; do
	patch --quiet --strip=1 --fuzz=0 --directory="$changed" <"$each"
done

cp go.mod "$changed/stand-in.mod"
cp go.sum "$changed/stand-in.sum"
go mod edit -replace=github.com/FerretDB/FerretDB="$changed" "$changed/stand-in.mod"
CGO_ENABLED=0 go build -modfile="$changed/stand-in.mod" -trimpath -buildvcs=false -ldflags='-s -w' \
	-o "$built/toimik-mongodb-stand-in" .
