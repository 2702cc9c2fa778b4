#!/usr/bin/env bash
# A fleet on this machine: Flower simulates its nodes on Ray, some are lost in each round, and what comes out is compared, bit for
# bit, with `ecotta merge` on the files of those that were not. In an environment with '.[fleet]' and 'flwr[simulation]'.
#
#   simulate.sh [FOLDER]          BOARDS=50 LOST=5 ROUNDS=3 CPUS=2 PORT=39191
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work="$(mkdir -p "${1:-fleet-simulation}" && cd "${1:-fleet-simulation}" && pwd)"
boards="${BOARDS:-50}" lost="${LOST:-5}" rounds="${ROUNDS:-3}" cpus="${CPUS:-2}" port="${PORT:-39191}"

# Flower reports its use to its maker, and looks for newer versions of itself, unless told not to.
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1
export FLWR_HOME="$work/flwr"
mkdir -p "$FLWR_HOME"
cat >"$FLWR_HOME/config.toml" <<END
[superlink]
default = "simulation"

[superlink.simulation]
address = "127.0.0.1:$port"
insecure = true
END

[[ -d "$work/states" ]] || python "$here/make_states.py" "$work/states" --boards "$boards"

# Not encrypted: it listens to this machine alone, and all nodes are simulated. deploy.sh has certificates and keys.
flower-superlink --simulation --insecure --host 127.0.0.1 --port "$port" --disable-runtime-dependency-installation \
    >"$work/superlink.log" 2>&1 &
superlink=$!
trap 'kill "$superlink" 2>/dev/null; wait "$superlink" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM
for _ in $(seq 120); do
    python - "$port" <<'END' && break || sleep 0.5
import sys, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/health", timeout=1)
END
done 2>/dev/null

flwr run "$here" simulation --stream \
    --run-config "rounds=$rounds out=\"$work/merged\" simulated-states=\"$work/states\" simulated-losses=$lost least-nodes=$boards" \
    --federation-config "num-supernodes=$boards client-resources-num-cpus=1 init-args-num-cpus=$cpus"

python "$here/compare.py" "$work" --round "$rounds" --lost "$lost"
