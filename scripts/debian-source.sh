# Fetches the source of a Debian package without touching the machine's own configuration of apt. Sourced, not run.
# shellcheck shell=bash

# debian_source PACKAGE DIRECTORY: unpacks the source package into DIRECTORY/source; logs into DIRECTORY/apt.log.
debian_source() {
    local package=$1 work=$2 file
    rm -rf "$work"
    mkdir -p "$work/sources" "$work/lists/partial"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$file" ] && sed -n 's/^deb /deb-src /p' "$file" >>"$work/sources/copy.list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources/$(basename "$file")"
    done
    local options=(-q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/sources"
        -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=)
    (
        cd "$work" || exit 1
        apt-get "${options[@]}" update >apt.log 2>&1 || fail "no source lists: see $work/apt.log"
        apt-get "${options[@]}" source --download-only "$package" >>apt.log 2>&1 \
            || fail "no source package $package: see $work/apt.log"
        dpkg-source --no-check -x "${package}"_*.dsc source >>apt.log 2>&1
    )
}
