#!/usr/bin/env bash
# A deployment on one machine: a SuperLink with a certificate, and SuperNodes that prove who they are by keys which were registered
# before. Makes certificates and keys, and runs one round. In an environment with '.[fleet]'; needs openssl and ssh-keygen.
#
#   deploy.sh FOLDER NAME=STATE [NAME=STATE ...]        PORT=9091
#
# STATE is the state folder of `ecotta serve` or a state's file. What is merged is in FOLDER/merged, and what each node takes in
# FOLDER/NAME. On several machines: the SuperLink's part on one, of each node's part on its own machine all but the registration, with
# HOST of the certificate and of --superlink the SuperLink's name. A node's private key never leaves its machine.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
(($# >= 3)) || { sed -n 2,10p "${BASH_SOURCE[0]}" >&2; exit 2; }
work="$(mkdir -p "$1" && cd "$1" && pwd)"
shift
host=127.0.0.1 port="${PORT:-9091}"

# Flower reports its use to its maker, and looks for newer versions of itself, unless told not to.
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 OMP_NUM_THREADS=1
export FLWR_HOME="$work/flwr"
umask 077
cd "$work"

# 1. Certificates: an authority of our own, and the SuperLink's.
if [[ ! -e ca.pem ]]; then
    new=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    openssl req -x509 "${new[@]}" -keyout ca.key -out ca.pem -days 3650 -subj "/CN=our fleet" 2>/dev/null
    openssl req "${new[@]}" -keyout superlink.key -out superlink.csr -subj "/CN=superlink" 2>/dev/null
    openssl x509 -req -in superlink.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out superlink.pem -days 825 \
        -extfile <(printf 'subjectAltName=DNS:localhost,IP:%s\n' "$host") 2>/dev/null
fi

# 2. The SuperLink: encrypted, and only for nodes that are registered.
processes=()
trap 'kill "${processes[@]}" 2>/dev/null; wait 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
flower-superlink --ssl-ca-certfile ca.pem --ssl-certfile superlink.pem --ssl-keyfile superlink.key --enable-supernode-auth \
    --database superlink.db --host "$host" --port "$port" --disable-runtime-dependency-installation >superlink.log 2>&1 &
processes+=($!)

mkdir -p "$FLWR_HOME"
cat >"$FLWR_HOME/config.toml" <<END
[superlink]
default = "deployment"

[superlink.deployment]
address = "$host:$port"
root-certificates = "$work/ca.pem"
END
for _ in $(seq 120); do
    python - "$host:$port" <<'END' && break || sleep 0.5
import ssl, sys, urllib.request
urllib.request.urlopen(f"https://{sys.argv[1]}/health", timeout=1, context=ssl.create_default_context(cafile="ca.pem"))
END
done 2>/dev/null

# 3. The nodes: a key each, whose public part is registered, and what each gives and wants.
number=0
for argument in "$@"; do
    name="${argument%%=*}" state="${argument#*=}"
    [[ -e "$name.key" ]] || ssh-keygen -q -t ecdsa -b 384 -N "" -C "$name" -f "$name.key"
    flwr supernode register "$name.key.pub" deployment --name "$name"
    number=$((number + 1))
    flower-supernode --root-certificates ca.pem --superlink "$host:$port" --auth-supernode-private-key "$name.key" \
        --port $((port + number)) --node-config "name=\"$name\" state=\"$state\" merged=\"$work/$name\"" >"$name.log" 2>&1 &
    processes+=($!)
done

# 4. A round.
flwr run "$here" deployment --stream --run-config "rounds=1 out=\"$work/merged\" least-nodes=$#"
ls -l merged
