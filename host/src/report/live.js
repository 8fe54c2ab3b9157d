// Puts the newest content of the page in place every two seconds, and leaves its reader where he is.
"use strict";
(() => {
  const PERIOD_MS = 2000;
  const pause = document.getElementById("pause");
  const state = document.getElementById("state");
  const shown = new Map();

  const say = (text) => {
    if (state.textContent !== text) state.textContent = text;
  };
  const isPaused = () => pause.getAttribute("aria-pressed") === "true";

  pause.hidden = false;
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!isPaused()));
    say(isPaused() ? "paused" : "live");
  });

  // What can hold the focus or be scrolled or opened, in order; an exchange by its id.
  const places = (part) => [...part.querySelectorAll("[tabindex], a, summary")];
  const id = (place) => place.closest("details")?.dataset.id;
  const same = (part, place, index) => {
    const all = places(part);
    return id(place) ? all.find((other) => id(other) === id(place)) : all[index];
  };

  function replace(part, fresh) {
    const before = places(part);
    const focused = before.indexOf(document.activeElement);
    const scrolled = before.map((place) => place.scrollLeft);
    const open = [...part.querySelectorAll("details[open]")].map((details) => details.dataset.id);
    part.innerHTML = fresh;
    for (const details of part.querySelectorAll("details")) details.open = open.includes(details.dataset.id);
    scrolled.forEach((left, index) => {
      const place = left > 0 && same(part, before[index], index);
      if (place) place.scrollLeft = left;
    });
    if (focused >= 0) same(part, before[focused], focused)?.focus({ preventScroll: true });
  }

  async function renew() {
    const answer = await fetch(location.search || "./", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const fresh of page.querySelectorAll("[data-part]")) {
      const part = document.querySelector(`[data-part="${fresh.dataset.part}"]`);
      if (part && shown.get(fresh.dataset.part) !== fresh.innerHTML) {
        shown.set(fresh.dataset.part, fresh.innerHTML);
        replace(part, fresh.innerHTML);
      }
    }
  }

  async function go() {
    if (!isPaused() && !document.hidden) {
      try {
        await renew();
        if (!isPaused()) say("live");
      } catch {
        say("podtap does not answer");
      }
    }
    setTimeout(go, PERIOD_MS);
  }
  say("live");
  setTimeout(go, PERIOD_MS);
})();
