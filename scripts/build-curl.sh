#!/usr/bin/env bash
# Builds libcurl for HTTP and HTTPS only as a static library, from Debian's own source package, into build/deps/static, and
# puts Debian's static OpenSSL and expat beside it.
#
# Debian's own libcurl brings some 30 libraries along. With this one, libraystorage.so needs nothing but the C library.
# The result is kept: the second run does nothing. Exits 1, with the reason, where the sources cannot be had.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$ROOT/scripts/debian-source.sh"

destination=$BUILD/deps/static
work=$BUILD/deps/curl-source
[ -f "$destination/libcurl.a" ] && [ -f "$destination/libexpat.a" ] && exit 0

apt_install dpkg-dev libssl-dev libexpat1-dev || fail "dpkg-dev, libssl-dev and libexpat1-dev are needed to build curl"
mkdir -p "$destination"
say "building libcurl from Debian's source package"
debian_source curl "$work"
cd "$work/source"
# Nothing but HTTP: no other protocol, no compression, no HTTP/2 (a connection per transfer is what large objects want),
# no cookies, no authentication but what the proxy may ask for, no .netrc. The CA store is looked for at run time.
# No sigaction: curl would switch SIGPIPE of the whole process off and on; our threads block all signals instead.
# What has arrived is handed over in pieces as large as curl's buffer: each one costs a call and a copy, and 16 KiB is its default.
# No openssl.cnf of the host, which may name engines that are not here.
curl_disallow_sigaction=yes CFLAGS="-O2 -DCURL_MAX_WRITE_SIZE=524288 -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections" ./configure --quiet \
    --enable-static --disable-shared --with-openssl --without-ca-bundle --without-ca-path --enable-symbol-hiding --disable-openssl-auto-load-config \
    --disable-ftp --disable-file --disable-ldap --disable-ldaps --disable-rtsp --disable-dict --disable-telnet \
    --disable-tftp --disable-pop3 --disable-imap --disable-smb --disable-smtp --disable-gopher --disable-mqtt \
    --disable-manual --disable-docs --disable-libcurl-option --disable-cookies --disable-netrc --disable-ntlm \
    --disable-ntlm-wb --disable-tls-srp --disable-unix-sockets --disable-alt-svc --disable-hsts --disable-doh \
    --disable-websockets --without-brotli --without-zstd --without-zlib --without-libpsl --without-libidn2 \
    --without-nghttp2 --without-librtmp --without-libssh --without-libssh2 --without-libgsasl --without-gssapi \
    --enable-threaded-resolver --enable-ipv6 --enable-proxy >../configure.log 2>&1 \
    || fail "curl cannot be configured: see $work/configure.log"
make -C lib -j2 >../make.log 2>&1 || fail "curl does not build: see $work/make.log"
cp lib/.libs/libcurl.a "$destination/libcurl.a.new"
cp COPYING "$destination/LICENSE.curl"
libraries=$(dpkg -L libssl-dev libexpat1-dev | grep -E '/lib(ssl|crypto|expat)\.a$')
for library in $libraries; do cp "$library" "$destination/"; done
cp /usr/share/doc/libssl-dev/copyright "$destination/LICENSE.openssl"
cp /usr/share/doc/libexpat1-dev/copyright "$destination/LICENSE.expat"
mv "$destination/libcurl.a.new" "$destination/libcurl.a"
