#!/usr/bin/env bash
# Starts a tracking server with the settings of server.env beside this file; those of another file that is named
# (team.env, or one of yours) win over them, and the environment's own over all.
# Usage: mlflow/start.sh [FILE.env] [options of `mlflow server`]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

complain() {
  echo "affectune: $*" >&2
  exit 1
}

# Export the settings that are not set yet; empty ones are left to MLflow.
read_settings() {
  local line name value
  [ -r "$1" ] || complain "settings must be a file that can be read, got $1"
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

# Nobody but this machine reaches a server that asks for no password.
check_login() {
  local option
  case $AFFECTUNE_TRACKING_LOGIN in
    none | password | proxy) ;;
    *) complain "AFFECTUNE_TRACKING_LOGIN must be none, password or proxy, got '$AFFECTUNE_TRACKING_LOGIN'" ;;
  esac
  for option in "$@"; do
    case $option in
      -h* | --host*) complain "the address must be named by MLFLOW_HOST, got the option $option" ;;
    esac
  done
  case $AFFECTUNE_TRACKING_LOGIN,$MLFLOW_HOST in
    password,* | proxy,* | none,127.* | none,localhost | none,::1) ;;
    *)
      complain "MLFLOW_HOST must be 127.0.0.1 while nobody logs in, got $MLFLOW_HOST;" \
        "set AFFECTUNE_TRACKING_LOGIN to password, or to proxy where a proxy in front asks for one"
      ;;
  esac
}

# What MLflow's log-in needs, in files that their owner alone reads: a key of its pages, and where its users stand.
write_login() (
  umask 077
  [ -s login.key ] || {
    head -c 32 /dev/urandom | base64 >login.key.partial
    mv login.key.partial login.key
  }
  cat >login.ini.partial <<INI
[mlflow]
default_permission = ${AFFECTUNE_TRACKING_PERMISSION:-READ}
database_uri = ${MLFLOW_BACKEND_STORE_URI//%/%%}
admin_username = admin
INI
  mv login.ini.partial login.ini
)

case ${1-} in
  *.env)
    [ -e "$1" ] && settings=$1 || settings=$here/$1
    read_settings "$settings"
    shift
    ;;
esac
read_settings "$here/server.env"
check_login "$@"
mlflow=$(find_mlflow)
cd "$here"
mkdir -p "$AFFECTUNE_TRACKING_DIR"
cd "$AFFECTUNE_TRACKING_DIR"
if [ "$AFFECTUNE_TRACKING_LOGIN" = password ]; then
  write_login
  export MLFLOW_AUTH_CONFIG_PATH=$PWD/login.ini
  MLFLOW_FLASK_SERVER_SECRET_KEY=$(<login.key)
  export MLFLOW_FLASK_SERVER_SECRET_KEY
  set -- --app-name basic-auth "$@"
fi
echo "MLflow: http://$MLFLOW_HOST:$MLFLOW_PORT, files in $PWD"
exec "$mlflow" server "$@"
