#!/usr/bin/env bash
# Makes splat/report/web/viewer.js.gz anew: Spark, three.js and main.js in one file. Needs node and npm; package-lock.json
# pins every package and its SHA-512. The same input gives the same bytes: a check compares them with SHA256SUM.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$here/../../splat/report/web
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/{main.js,package.json,package-lock.json} "$work"
cd "$work"
npm ci --silent --no-audit --no-fund --ignore-scripts
node node_modules/esbuild/install.js
npx esbuild main.js --bundle --minify --format=iife --legal-comments=none --log-level=warning --outfile=viewer.js
gzip -9 -n viewer.js
{
    echo "splat/report/web/viewer.js.gz holds, besides tools/web_viewer/main.js of splat:"
    for package in @sparkjsdev/spark three fflate; do
        version=$(node -p "require('./node_modules/$package/package.json').version")
        printf '\n==== %s %s (https://www.npmjs.com/package/%s) ====\n\n' "$package" "$version" "$package"
        cat "node_modules/$package"/LICENSE*
    done
} >LICENSES.txt
mv viewer.js.gz LICENSES.txt "$target"
(cd "$target" && sha256sum viewer.js.gz >SHA256SUM && cat SHA256SUM)
