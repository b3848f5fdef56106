// Pictures of reports. Usage: node screenshots.mjs FOLDER NAME=DOCUMENT... with CX_BINARY, CX_REPORT_PACKAGES and CX_CHROMIUM set.
import {mkdirSync, mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {launch, makeReport, openPage, settled, showPanel} from './browser.mjs';

const [folder, ...documents] = process.argv.slice(2);
mkdirSync(folder, {recursive: true});
const work = mkdtempSync(join(tmpdir(), 'cx_report_'));
const browser = await launch();
for (const argument of documents) {
  const [name, document] = argument.split('=');
  const html = join(work, `${name}.html`);
  makeReport(html, document);
  const {page, problems} = await openPage(browser, html);
  for (const id of ['overview', 'timeline']) {
    await showPanel(page, id);
    if (id === 'timeline') {
      // The largest product that something caused, among its neighbours.
      await page.evaluate(() => {
        const timeline = window.cxReport.timeline();
        const {spans, tracks} = timeline.run;
        let best = -1;
        for (let i = 0; i < spans.count; ++i) {
          const shown = tracks[spans.track[i]].name === 'dmmu' && spans.cause[i] >= 0;
          if (shown && (best < 0 || spans.operations[i] > spans.operations[best])) best = i;
        }
        if (best < 0) return;
        timeline.select(best);
        const [from, to] = timeline.deviceTime;
        const middle = spans.start[best] + spans.duration[best] / 2;
        const half = Math.max(spans.duration[best] * 3, (to - from) / 60);
        timeline.show(middle - half, middle + half);
      });
      await settled(page);
    }
    await page.screenshot({path: join(folder, `${name}-${id}.png`), optimizeForSpeed: false});
  }
  if (problems.length > 0) throw new Error(problems.join('\n'));
  await page.close();
}
await browser.close();
rmSync(work, {recursive: true});
