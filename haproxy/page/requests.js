// Requests, shown in a lane for each replica.

import {at as addressOf, Card, SHOWN, colour, duration, explain, figures, onScale, pen, keep, refusal, sleep} from "./card.js";

const IN_FLIGHT = 2;  // per service: a browser opens six connections per host, and event streams hold two

const FAILED = "failed";  // the lane for failed requests
// Set a label only if it changed: a screen reader reacts to every set.
const label = (element, text) => element.getAttribute("aria-label") === text || element.setAttribute("aria-label", text);
const rank = (sorted, share) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];

export class Requests extends Card {
  constructor(article, own) {
    const service = article.dataset.requests, name = service.toUpperCase();
    super(article, `<div class="row"><h3>${name}</h3>
      ${own.has(service) ? `<label class="path">${addressOf(service)}<input type="text" aria-label="Path of the requests to ${name}"></label>` : ""}
      <label><input type="range" min="1" max="50" value="10" aria-label="${name} requests a second">
      <output>10</output> a second</label><button></button></div>
      ${figures(["responses", "p50", "p95", "p99", "failed", "skipped"])}
      <canvas class="spread" role="img"></canvas>
      <table class="lanes"><thead><tr><th scope="col">${own.has(service) ? "status" : "replica"}<th scope="col">last 30 s<th scope="col">responses<th scope="col">p50
      <tbody></tbody></table><p class="bad" role="status"></p>`);
    this.service = service;
    this.path = this.find("[type=text]");  // of an application of one's own
    this.lanes = new Map();
    this.total = this.failed = this.held = this.inFlight = 0;
    this.complaint = "";
    this.began = this.until = 0;
    const range = this.find("[type=range]");
    range.oninput = () => { this.rate = +range.value; this.find("output").textContent = range.value; };
    range.oninput();
    this.toggle(["Send", "Stop"], `requests to ${name}`, on => this.run(this.running = on && {}));
  }

  async run(turn) {
    let due = this.began = performance.now();
    while (turn && this.running === turn) {
      if (this.inFlight < IN_FLIGHT) this.send();
      else this.held++;
      due = Math.max(due + 1000 / this.rate, performance.now());  // after sleep, skip what was missed
      await sleep(due - performance.now());
    }
  }

  async send() {
    this.inFlight++;
    const began = performance.now();
    let lane = FAILED;
    try {
      const path = this.path ? this.path.value : "whoami";
      const answer = await fetch(addressOf(this.service) + path, {cache: "no-store", signal: AbortSignal.timeout(10_000)});
      if (this.path ? answer.status >= 500 : !answer.ok) throw await refusal(answer);
      lane = this.path ? `${answer.status} ${answer.statusText}` : (await answer.json()).instance;
      if (this.path) await answer.text();
      this.total++;
    } catch (error) {
      this.failed++;
      this.complaint = explain(error);
    }
    this.inFlight--;
    const at = performance.now();
    keep(this.lane(lane), {at, ms: at - began});
  }

  lane(name) {
    if (!this.lanes.has(name)) {
      const row = this.find("tbody").insertRow();
      row.innerHTML = `<th scope="row"><td><canvas role="img" aria-label="First response"></canvas><td class="number"><td class="number">`;
      row.cells[0].textContent = name;
      row.classList.toggle("bad", name === FAILED);
      this.lanes.set(name, Object.assign([], {row, count: 0}));
    }
    const lane = this.lanes.get(name);
    lane.count++;
    return lane;
  }

  draw(now) {
    if (this.running || this.inFlight) this.until = now;
    now = this.until;  // when stopped, keep the last picture
    const recent = [];
    for (const [name, lane] of this.lanes) {
      const last = lane.at(-1).at;
      if (now - Math.max(last, this.began) > SHOWN) {  // nothing left to show
        lane.row.remove();
        this.lanes.delete(name);
        if (name === FAILED) this.complaint = "";
        continue;
      }
      const shown = lane.filter(({at}) => at >= now - SHOWN), silent = (now - last) / 1000;
      const gone = this.running && silent > Math.max(2, 20 / this.rate);
      const times = shown.map(answer => answer.ms).sort((a, b) => a - b);
      const [, strip, count, median] = lane.row.cells;
      count.textContent = lane.count;
      median.textContent = gone ? `silent ${silent.toFixed(0)} s` : times.length ? duration(rank(times, 0.5)) : "–";
      lane.row.classList.toggle("silent", gone);
      const {draw, width, height} = pen(strip.firstChild);
      if (name === FAILED) draw.fillStyle = colour("bad");
      for (const {at, ms} of shown) {
        draw.beginPath();
        draw.arc(width * (1 - (now - at) / SHOWN), (height - 6) * (1 - onScale(ms)) + 3, 2, 0, 7);
        draw.fill();
      }
      label(strip.firstChild, `${times.length} responses in the last 30 s`);
      if (name !== FAILED) recent.push(...times);
    }
    this.spread(recent.sort((a, b) => a - b));
    this.show("responses", this.total);
    this.show("failed", this.failed);
    this.show("skipped", this.held);
    const complaint = this.find("p");
    if (complaint.textContent !== this.complaint) complaint.textContent = this.complaint;
  }

  spread(times) {
    for (const share of [50, 95, 99]) this.show(`p${share}`, times.length ? duration(rank(times, share / 100)) : "–");
    const canvas = this.find(".spread"), {draw, width, height} = pen(canvas), bins = Array(40).fill(0);
    for (const ms of times) bins[Math.min(39, Math.floor(onScale(ms) * 40))]++;
    const most = Math.max(1, ...bins), floor = height - 16;
    bins.forEach((many, bin) => draw.fillRect(bin * width / 40, floor * (1 - many / most), width / 40 - 1, floor * many / most));
    draw.fillStyle = colour("soft");
    ["1 ms", "10", "100", "1 s"].forEach((label, decade) => draw.fillText(label, decade * width / 4, height - 3));
    const range = times.length ? `, from ${duration(times[0])} to ${duration(times.at(-1))}` : "";
    label(canvas, `Distribution of ${times.length} response times of the last 30 s${range}`);
  }
}
