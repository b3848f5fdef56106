// A headless Chromium that opens reports and notes whatever they should not do.
import {execFileSync} from 'node:child_process';
import {createRequire} from 'node:module';
import {pathToFileURL} from 'node:url';

const require = createRequire(`${process.env.CX_REPORT_PACKAGES}/`);
const puppeteer = require('puppeteer-core');

export function launch() {
  return puppeteer.launch({
    executablePath: process.env.CX_CHROMIUM ?? '/usr/bin/chromium',
    pipe: true,
    // CI runs as root, in which Chromium refuses its sandbox; /dev/shm is small in containers.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--hide-scrollbars'],
  });
}

/** Runs cx report; throws with its message when it fails. */
export function makeReport(html, ...documents) {
  return execFileSync(process.env.CX_BINARY, ['report', ...documents, '--html', html], {encoding: 'utf8', stdio: 'pipe'});
}

/** Opens a file; `problems` collects console messages of errors and warnings, exceptions, and requests beyond the file itself. */
export async function openPage(browser, file, {scheme = 'light', hash = ''} = {}) {
  const page = await browser.newPage();
  const url = pathToFileURL(file).href;
  const problems = [];
  await page.setViewport({width: 1280, height: 800});
  await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: scheme}]);
  page.on('console', (message) => {
    if (['error', 'warn'].includes(message.type())) problems.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
  page.on('request', (request) => {
    if (request.url().split('#')[0] !== url) problems.push(`request: ${request.url()}`);
  });
  page.on('dialog', (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(url + hash);
  await page.waitForFunction(() => window.cxReport?.ready || window.cxReport?.error);
  return {page, problems};
}

export async function showPanel(page, id) {
  await page.click(`#tab-${id}`);
  await settled(page);
}

/** After the frames that a change asks for. */
export function settled(page) {
  return page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)))));
}
