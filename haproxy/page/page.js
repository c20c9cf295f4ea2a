// The front page. Every number is either counted here, from responses through HAProxy, or reported by HAProxy.

import {at} from "./card.js";
import {Requests} from "./requests.js";
import {Stream} from "./streams.js";
import {Waiting} from "./waiting.js";

const UNSHOWN = "This needs more than the six connections that a browser opens per host. Open http://127.0.0.1 on the machine that runs the stack, in a browser that resolves *.localhost (Chromium, Firefox).";
const SERVICES = ["wsgi", "asgi"];
const still = matchMedia("(prefers-reduced-motion: reduce)");

// Whether another application than the demonstration is there. If nothing answers, this is not known yet: no.
async function isOwn(service) {
  try {
    const answer = await fetch(`${at(service)}whoami`, {cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(3000)});
    return answer.status < 502 && !(answer.ok && (await answer.json()).interface);
  } catch (error) {
    return error.name === "SyntaxError";
  }
}

// Name an application of one's own by the title of its front page, and link to that.
async function introduce(service) {
  const place = document.querySelector(`[data-application="${service}"]`), link = document.createElement("a");
  link.textContent = link.href = at(service);
  place.replaceChildren("your application at ", link, ",");
  const answer = await fetch(link.href, {headers: {Accept: "text/html"}, signal: AbortSignal.timeout(3000)});
  if (!/html/.test(answer.headers.get("Content-Type"))) return;
  const {title} = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (title) place.prepend(`“${title}”, `);
}

const own = new Set((await Promise.all(SERVICES.map(async service => await isOwn(service) && service))).filter(Boolean));
for (const service of own) introduce(service).catch(() => {});
// Show what is about the demonstration, or about an application of one's own, if one of the services named has it.
for (const [attribute, shows] of [["demonstrated", service => !own.has(service)], ["own", service => own.has(service)]])
  for (const part of document.querySelectorAll(`[data-${attribute}]`)) part.hidden = !part.dataset[attribute].split(" ").some(shows);
for (const service of own)
  for (const {cells} of document.querySelectorAll("#endpoints ~ .wide tr")) cells[1 + SERVICES.indexOf(service)].hidden = true;

const all = (attribute, Kind) => [...document.querySelectorAll(`[data-${attribute}]:not([hidden])`)].map(article => new Kind(article, own));
const drawn = [...all("requests", Requests), ...all("stream", Stream)], waiting = all("waiting", Waiting);

document.querySelector("#wait").onsubmit = async event => {
  event.preventDefault();
  const form = event.target, count = +form.count.value, said = form.querySelector("output");
  const button = form.querySelector("button");
  button.disabled = true;
  said.textContent = "waiting…";
  const watch = setInterval(look, 250);
  try {
    const opened = await Promise.all(waiting.map(one => one.open(count)));
    said.textContent = opened.every(Boolean) ? "" : UNSHOWN;
    if (opened.every(Boolean)) await Promise.all(waiting.map(one => one.run(count, redraw)));
  } finally {
    clearInterval(watch);
    button.disabled = false;
  }
};

function redraw() {
  const longest = Math.max(1, ...waiting.flatMap(one => one.answers.map(({to}) => to)));
  for (const one of waiting) one.draw(longest);
}

// Show what HAProxy reports: replicas that are up, requests in flight and in its queue.
let looking = false;
async function look() {
  if (looking || document.hidden) return;
  looking = true;
  const health = document.querySelector("#health");
  let text;
  try {
    const seen = await (await fetch("status", {cache: "no-store", signal: AbortSignal.timeout(3000)})).json();
    for (const card of waiting) {
      const {requests, queue} = seen[card.service];
      card.show("in replicas", requests - queue);
      card.show("in the queue", queue);
    }
    health.classList.toggle("bad", !seen.wsgi.up || !seen.asgi.up);
    text = `HAProxy reports ${seen.wsgi.up} WSGI and ${seen.asgi.up} ASGI replicas up.`;
  } catch {
    health.classList.add("bad");
    for (const card of waiting) for (const figure of ["in replicas", "in the queue"]) card.show(figure, "–");
    text = "HAProxy does not respond; retrying. Check that the stack is running, and close other tabs with this page: a browser opens only six connections per host.";
  }
  looking = false;
  if (health.textContent !== text) health.textContent = text;
}
look();
setInterval(look, 2000);

(function frame() {
  if (!document.hidden) for (const card of drawn) card.draw(performance.now());
  setTimeout(() => requestAnimationFrame(frame), still.matches ? 1000 : 50);
})();
