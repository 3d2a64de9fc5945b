# Sourced by programs that need other people's software: installs it once, pinned, below $installed_under.

python="$(command -v python3.11 || command -v python3)"

# Everything until `lock_released` is done by one process at a time.
lock_taken() {
  mkdir -p "$installed_under"
  exec 9> "$installed_under/.lock"
  flock 9
}

lock_released() {
  exec 9>&-
}

# once NAME COMMAND...: runs the command unless the very same one has already succeeded under this name.
once() {
  local name="$1" done_mark="$installed_under/$1.installed"
  shift
  [[ -f "$done_mark" && "$(cat "$done_mark")" == "$*" ]] && return
  echo "installing $name ..." >&2
  rm -rf "${installed_under:?}/$name"
  "$@" >&2
  echo "$*" > "$done_mark"
}

# venv NAME PACKAGE...: an environment of Python with these packages.
venv() {
  local folder="$installed_under/$1"
  shift
  "$python" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
}
