#!/usr/bin/env bash
# Starts a tracking server with the settings of server.env beside this file; the environment's own settings win.
# Usage: mlflow/start.sh [options of `mlflow server`]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

complain() {
  echo "affectune: $*" >&2
  exit 1
}

# Export the settings that are not set yet; empty ones are left to MLflow.
read_settings() {
  local line name value
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in
      '' | '#'*) continue ;;
      [A-Z]*=*) ;;
      *) complain "a line of $1 must be a comment or NAME=VALUE, got '$line'" ;;
    esac
    name=${line%%=*}
    value=${line#*=}
    if [ -z "${!name+set}" ] && [ -n "$value" ]; then
      export "$name=$value"
    fi
  done <"$1"
}

find_mlflow() {
  local candidate
  for candidate in "$here/../.venv/bin/mlflow" "$(command -v mlflow || true)"; do
    if [ -x "$candidate" ]; then
      echo "$candidate"
      return
    fi
  done
  complain "mlflow must be installed, got none in .venv or on the PATH; run 'make setup'"
}

read_settings "$here/server.env"
mlflow=$(find_mlflow)
cd "$here"
mkdir -p "$AFFECTUNE_TRACKING_DIR"
cd "$AFFECTUNE_TRACKING_DIR"
echo "MLflow: http://$MLFLOW_HOST:$MLFLOW_PORT, files in $PWD"
exec "$mlflow" server "$@"
