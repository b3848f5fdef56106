// Bundles the page into one file. Usage: node build.mjs [OUTPUT], default dist/report.html
import {build} from 'esbuild';
import {mkdir, readFile, writeFile} from 'node:fs/promises';
import {dirname, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const output = resolve(process.argv[2] ?? `${here}/dist/report.html`);

async function bundle(entry) {
  const result = await build({
    absWorkingDir: here,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: 'iife',
    target: ['chrome109', 'firefox115', 'safari16.4'],
    legalComments: 'inline',
    logLevel: 'warning',
  });
  return result.outputFiles[0].text;
}

function fill(page, marker, text) {
  const parts = page.split(marker);
  if (parts.length !== 2) throw new Error(`src/page.html must contain ${marker} once`);
  return parts[0] + text + parts[1];
}

let page = await readFile(`${here}/src/page.html`, 'utf8');
page = fill(page, '/*cx:style*/', await bundle('src/style.css'));
page = fill(page, '/*cx:script*/', await bundle('src/main.ts'));
await mkdir(dirname(output), {recursive: true});
await writeFile(output, page);
