// A page in a real Chromium, and what is to be known of it.
//
// node page.js look CHROMIUM URL PICTURE: takes a picture, and has axe-core look at it in light and in dark.
// node page.js hold CHROMIUM URL SECONDS: does it go on renewing itself, and does it grow? Its nodes and its heap at the
// beginning, when it is full, and at the end.
"use strict";
const puppeteer = require("puppeteer-core");

const WINDOW = { width: 1240, height: 1190 };
const [task, chromium, url, ...rest] = process.argv.slice(2);

function require_(condition, message) {
  if (!condition) throw new Error(message);
}

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// Everything that the page is made of, after what it no longer needs is gone.
async function size(page, session) {
  await session.send("HeapProfiler.collectGarbage");
  const { Nodes, JSHeapUsedSize } = await page.metrics();
  return { nodes: Nodes, heap: JSHeapUsedSize };
}

const exchanges = (page) =>
  page.$eval(".figures dd", (figure) => Number(figure.firstChild.textContent.replaceAll(",", "")));

async function look(page, picture) {
  await page.waitForSelector(".figures dd");
  await page.screenshot({ path: picture });
  const axe = require("axe-core").source;
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.evaluate(axe);
    const found = await page.evaluate("axe.run()");
    const broken = found.violations.map((rule) => [rule.id, rule.help, rule.nodes.slice(0, 3).map((node) => node.html)]);
    require_(broken.length === 0, `axe-core, ${scheme}: ${JSON.stringify(broken, null, 2)}`);
    require_(found.passes.length > 10, `axe-core, ${scheme}: looked at next to nothing`);
    console.log(`axe-core, ${scheme}: ${found.passes.length} rules passed, none broken`);
  }
}

async function hold(page, seconds) {
  const session = await page.createCDPSession();
  await wait(seconds / 3);
  // As somebody reads it: an exchange is open, and has the focus.
  await page.click("#slowest ~ .wide summary");
  const [first, early] = [await exchanges(page), await size(page, session)];
  await wait((seconds * 2) / 3);
  const [last, late] = [await exchanges(page), await size(page, session)];
  const state = await page.$eval("#state", (state) => state.textContent);
  require_(state === "live", `the page says: ${state}`);
  require_(last > first, `${first} exchanges, and ${last} at the end`);
  const isOpen = await page.evaluate(
    () => document.activeElement.tagName === "SUMMARY" && document.activeElement.parentElement.open,
  );
  // The slowest stays among the slowest where all that comes is alike.
  require_(isOpen, "the exchange that was opened is not open any more, or has lost the focus");
  await page.click("#pause");
  const paused = await exchanges(page);
  await wait(5);
  require_((await exchanges(page)) === paused, "it goes on when it is to pause");
  console.log(JSON.stringify({ first, last, early, late }));
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: chromium,
    headless: "shell",
    // Nothing of its own: no updates, no other hosts.
    args: ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"].concat(
      process.getuid() === 0 ? ["--no-sandbox"] : [],
    ),
  });
  try {
    const page = await browser.newPage();
    const problems = [];
    page.on("console", (message) => problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(error.message));
    await page.setViewport(WINDOW);
    await page.goto(url);
    await (task === "look" ? look(page, rest[0]) : hold(page, Number(rest[0])));
    require_(problems.length === 0, `the browser says: ${problems.join("\n")}`);
  } finally {
    await browser.close();
  }
})().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
