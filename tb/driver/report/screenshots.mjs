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
      // The longest span of an engine that something caused, among its neighbours.
      await page.evaluate(() => {
        const timeline = window.cxReport.timeline();
        const {spans, tracks} = timeline.run;
        let best = -1;
        for (let i = 0; i < spans.count; ++i) {
          const shown = tracks[spans.track[i]].group === 'engines' && spans.cause[i] >= 0;
          if (shown && (best < 0 || spans.duration[i] > spans.duration[best])) best = i;
        }
        if (best < 0) return;
        timeline.select(best);
        const middle = spans.start[best] + spans.duration[best] / 2;
        timeline.show(middle - spans.duration[best] * 6, middle + spans.duration[best] * 6);
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
