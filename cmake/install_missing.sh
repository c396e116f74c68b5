# Finds what is not installed, and installs it. Read by ./dev; not a program of its own.
#
#   need PACKAGE COMMAND...   remembers PACKAGE unless COMMAND succeeds
#   install_missing           installs what was remembered, or says what to install
#   need_tools, need_catch2   what every build needs; what the tests need besides
#   need_mingw                what the preset mingw needs besides
#
# When all is there, nothing but these checks runs: no apt-get, no network.

deps_dir=$PWD/build/deps
catch2_pkg_config_path=$deps_dir/prefix/share/pkgconfig:$deps_dir/prefix/lib/pkgconfig
missing=()

need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

need_tools() {
    need g++ command -v "${CXX:-g++}"
    need cmake command -v cmake
    need ninja-build command -v ninja
    need pkg-config command -v pkg-config
    need python3 command -v python3
    need liburing-dev pkg-config --exists liburing
    need libfmt-dev pkg-config --exists fmt
    install_missing
}

# What the tests need besides.
need_catch2() {
    need nlohmann-json3-dev test -e /usr/include/nlohmann/json.hpp
    install_missing
    have_catch2 && return
    echo "dev: installing Catch2 3"
    catch2_from_apt || catch2_from_backports || catch2_from_source ||
        die "the tests need Catch2 version 3. Debian 12 has it in bookworm-backports (package catch2)."
}

have_catch2() {
    PKG_CONFIG_PATH=$catch2_pkg_config_path pkg-config --exists 'catch2-with-main >= 3'
}

can_be_root() { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${apt_options[@]}" \
        -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 -qq --yes --no-install-recommends install "$@" >/dev/null
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]} (these are Debian's names). Please install them."
    can_be_root || die "missing: ${missing[*]}. As root: apt-get install ${missing[*]}"
    echo "dev: installing ${missing[*]}"
    # A compiler cache is a help, so it comes along, but nothing depends on it.
    command -v ccache >/dev/null || missing+=(ccache)
    apt_options=()
    if ! apt_install "${missing[@]}" 2>/dev/null; then
        # The lists may be old or absent. Somebody's broken extra source must not stop us: what counts is the install.
        as_root apt-get -qq update || true
        apt_install "${missing[@]}" || die "apt-get could not install: ${missing[*]}"
    fi
    missing=()
}

# --- Catch2 3 ---------------------------------------------------------------------------------------
# Debian 12 itself has only version 2. Version 3 is in its backports, which most machines do not list, so the machine's
# own sources are read, their suite replaced, and the result used from a temporary folder. /etc/apt stays as it is.

catch2_from_apt() {
    command -v apt-get >/dev/null && can_be_root || return 1
    case $(apt-cache policy catch2 2>/dev/null | sed -n 's/^ *Candidate: //p') in
        3.*) apt_options=() && apt_install catch2 && have_catch2 ;;
        *) return 1 ;;
    esac
}

catch2_from_backports() {
    command -v apt-get >/dev/null && can_be_root || return 1
    (
        private_apt deb "$(codename)-backports"
        apt_install catch2
    ) && have_catch2
}

# Needs neither root nor a package: apt-get checks the archive's signature, we build it into build/deps/prefix.
catch2_from_source() {
    command -v apt-get >/dev/null || return 1
    fetch_source catch2 &&
        build_from_source catch2 native "$deps_dir/prefix" -DBUILD_TESTING=OFF -DCATCH_INSTALL_DOCS=OFF \
            -DCATCH_INSTALL_EXTRAS=OFF >/dev/null &&
        have_catch2
}

# --- Windows programs: the preset mingw -------------------------------------------------------------
# The libraries are compiled from Debian's source packages, into a prefix where that compiler alone looks.

mingw_prefix=$deps_dir/mingw-prefix

need_mingw() {
    need g++-mingw-w64-x86-64-posix command -v x86_64-w64-mingw32-g++-posix
    need wine64 test -x /usr/lib/wine/wine64
    need wine command -v wineserver
    need nlohmann-json3-dev test -e /usr/include/nlohmann/json.hpp
    install_missing
    need_mingw_library catch2 lib/cmake/Catch2 -DBUILD_TESTING=OFF -DCATCH_INSTALL_DOCS=OFF -DCATCH_INSTALL_EXTRAS=OFF
    need_mingw_library fmtlib lib/cmake/fmt -DFMT_TEST=OFF -DFMT_DOC=OFF
    # Headers only: what is installed here will do, but not the rest of the folder that it lies in.
    if [ ! -d "$mingw_prefix/share/cmake/nlohmann_json" ]; then
        mkdir -p "$mingw_prefix/include" "$mingw_prefix/share/cmake"
        cp -R /usr/include/nlohmann "$mingw_prefix/include/"
        cp -R /usr/share/cmake/nlohmann_json "$mingw_prefix/share/cmake/"
    fi
}

# need_mingw_library PACKAGE PART [-Dvariable=value...]: there when PART lies in the prefix.
need_mingw_library() {
    local package=$1 part=$2 log=build/mingw-$1.log
    shift 2
    [ ! -d "$mingw_prefix/$part" ] || return 0
    echo "dev: building $package for Windows"
    [ -e "$deps_dir/src/$package/CMakeLists.txt" ] || fetch_source "$package" || die "no source of $package (Debian's name)"
    build_from_source "$package" mingw "$mingw_prefix" -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/mingw.cmake" "$@" >"$log" 2>&1 ||
        { cat "$log" >&2; die "$package does not build for Windows"; }
}

# --- Debian's source packages ------------------------------------------------------------------------

# fetch_source PACKAGE: unpacks the newest source of a Debian package into build/deps/src/PACKAGE.
fetch_source() {
    local package=$1
    (
        private_apt deb-src "$(codename)-backports trixie"
        cd "$apt_dir" || exit 1
        apt-get "${apt_options[@]}" -qq --download-only source "$package" >/dev/null || exit 1
        mkdir -p "$deps_dir/src/$package"
        tar --extract --strip-components=1 --directory "$deps_dir/src/$package" --file ./*.orig.tar.*[!c]
    )
}

# build_from_source PACKAGE FOR PREFIX [-Dvariable=value...]: what fetch_source has unpacked.
build_from_source() {
    local source=$deps_dir/src/$1 binary=$deps_dir/build/$1-$2 prefix=$3
    shift 3
    cmake -S "$source" -B "$binary" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_STANDARD=20 \
        -DCMAKE_INSTALL_PREFIX="$prefix" "$@" &&
        cmake --build "$binary" &&
        cmake --install "$binary"
}

codename() { sed -n 's/^VERSION_CODENAME=//p' /etc/os-release; }

# private_apt TYPE SUITES: sets apt_options to a configuration of our own, in a folder that the subshell's end removes.
private_apt() {
    apt_dir=$(mktemp -d)
    trap 'rm -rf "$apt_dir" 2>/dev/null || true' EXIT
    chmod 755 "$apt_dir"
    mkdir -p "$apt_dir/parts" "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial"
    local file name
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -r "$file" ] || continue
        name=$(basename "$file")
        [ "$name" = sources.list ] && name=main.list
        case $file in
            *.list) one_line_sources "$1" "$2" "$file" >"$apt_dir/parts/$name" ;;
            *.sources) deb822_sources "$1" "$2" "$file" >"$apt_dir/parts/$name" ;;
        esac
    done
    apt_options=(
        -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt_dir/parts"
        -o Dir::State::Lists="$apt_dir/lists" -o Dir::Cache="$apt_dir/cache" -o APT::Sandbox::User=""
    )
    # A suite that one of the sources lacks is an error to apt-get, but what the others have is there all the same.
    apt-get "${apt_options[@]}" -o Acquire::Retries=3 -qq update >/dev/null 2>&1 || true
}

# one_line_sources TYPE SUITES FILE: `deb [options] uri suite component...`, for every line of our own release.
one_line_sources() {
    awk -v type="$1" -v suites="$2" -v codename="$(codename)" '
        $1 == "deb" {
            at = 2
            if ($2 ~ /^\[/) while ($at !~ /\]$/ && at < NF) at++
            if ($2 ~ /^\[/) at++
            if ($(at + 1) != codename) next
            count = split(suites, suite, " ")
            $1 = type
            for (i = 1; i <= count; i++) { $(at + 1) = suite[i]; print }
        }' "$3"
}

# deb822_sources TYPE SUITES FILE: the same for paragraphs of `Field: value`.
deb822_sources() {
    awk -v type="$1" -v suites="$2" -v codename="$(codename)" '
        BEGIN { RS = "" }
        {
            count = split($0, line, "\n")
            usable = 0; enabled = 1; field = ""; kept = ""
            for (i = 1; i <= count; i++) {
                if (line[i] ~ /^#/) continue
                if (line[i] ~ /^[^ \t]/) { field = tolower(line[i]); sub(/[ \t]*:.*/, "", field) }
                if (field == "enabled" && tolower(line[i]) ~ /no[ \t]*$/) enabled = 0
                if (field == "suites") {
                    values = line[i]; sub(/^[^ \t]*:/, "", values)
                    number = split(values, value, " ")
                    for (j = 1; j <= number; j++) if (value[j] == codename) usable = 1
                }
                if (field != "suites" && field != "types") kept = kept line[i] "\n"
            }
            if (usable && enabled) printf "Types: %s\nSuites: %s\n%s\n", type, suites, kept
        }' "$3"
}
