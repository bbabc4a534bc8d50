#!/bin/sh
# Makes the secrets that compose.cluster.yaml mounts, once: what is there already is never overwritten.
#
#   sh compose/make-secrets.sh [DIRECTORY]      by default compose/secrets
#
# Keep the directory out of version control and in your backup: without mongodb-keyfile and the passwords nobody reads the
# database. It is for its owner alone (0700). The files in it are readable for all (0444), because a container sees them as
# a user of its own: what protects them on this machine is the directory.
set -eu
umask 077
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
chmod 0700 "$directory"

# has NAME: whether there is such a secret.
has() { [ -s "$directory/$1" ]; }

# keep NAME: standard input becomes a secret. Complete or not at all, so that a second run finishes a broken first one.
keep() {
    cat >"$directory/.$1.new"
    chmod 0444 "$directory/.$1.new"
    mv "$directory/.$1.new" "$directory/$1"
}

# random BYTES: so many random bytes in hexadecimal: no character of them means anything in a URL or a shell.
random() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# How the members of the replica set know each other, and two passwords.
has mongodb-keyfile || random 96 | keep mongodb-keyfile
has mongodb-admin-password || random 24 | keep mongodb-admin-password
has mongodb-toimik-password || random 24 | keep mongodb-toimik-password

# Named like the settings: Toimik reads every file of that directory as one.
has TOIMIK_METADATA__MONGODB_URL || printf 'mongodb://toimik:%s@mongodb1,mongodb2,mongodb3/?replicaSet=toimik&authSource=admin' \
    "$(cat "$directory/mongodb-toimik-password")" | keep TOIMIK_METADATA__MONGODB_URL
has TOIMIK_DOCUMENTS__S3_ACCESS_KEY || random 10 | keep TOIMIK_DOCUMENTS__S3_ACCESS_KEY
has TOIMIK_DOCUMENTS__S3_SECRET_KEY || random 20 | keep TOIMIK_DOCUMENTS__S3_SECRET_KEY

has grafana-admin-password || random 12 | keep grafana-admin-password

# The proxy's certificate, chain and key in one file. This one is signed by itself, for a trial: put your own in its place.
if ! has proxy.pem; then
    openssl req -x509 -newkey rsa:3072 -nodes -days 90 -subj "/CN=${PROXY_NAME:-localhost}" \
        -addext "subjectAltName=DNS:${PROXY_NAME:-localhost}" \
        -keyout "$directory/.proxy.key" -out "$directory/.proxy.crt" 2>/dev/null
    cat "$directory/.proxy.crt" "$directory/.proxy.key" | keep proxy.pem
    rm "$directory/.proxy.key" "$directory/.proxy.crt"
    echo "proxy.pem is signed by itself, for 90 days and a trial: replace it with a certificate of yours." >&2
fi
