// Requests, and the lanes of the replicas that answer them.

import {Card, SHOWN, colour, explain, figures, onScale, pen, refusal, shorter, sleep} from "./card.js";

const IN_FLIGHT = 2;  // of each service: a browser opens six connections to a host, and event streams hold two

const rank = (sorted, share) => sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];

export class Requests extends Card {
  constructor(article) {
    const service = article.dataset.requests, name = service.toUpperCase();
    super(article, `<div class="row"><h3>${name}</h3>
      <label><input type="range" min="1" max="50" value="10" aria-label="${name} requests a second">
      <output>10</output> a second</label><button aria-pressed="false" aria-label="Send requests to ${name}">Send</button></div>
      ${figures(["answers", "p50 ms", "p95 ms", "p99 ms", "failed", "held back"])}
      <canvas class="spread" role="img" aria-label="No answers yet"></canvas>
      <table class="lanes"><thead><tr><th scope="col">replica<th scope="col">the last 30 s<th scope="col">answers<th scope="col">p50 ms
      <tbody></tbody></table><p class="bad" role="status"></p>`);
    this.service = service;
    this.lanes = new Map();
    this.total = this.failed = this.held = this.inFlight = 0;
    this.complaint = "";
    const [range, button] = [this.find("input"), this.find("button")];
    range.oninput = () => { this.rate = +range.value; this.find("output").textContent = range.value; };
    range.oninput();
    button.onclick = () => {
      this.running = !this.running && {};
      button.setAttribute("aria-pressed", !!this.running);
      button.textContent = this.running ? "Stop" : "Send";
      this.run(this.running);
    };
  }

  async run(turn) {
    let due = performance.now();
    while (turn && this.running === turn) {
      if (this.inFlight < IN_FLIGHT) this.send();
      else this.held++;
      due = Math.max(due + 1000 / this.rate, performance.now());  // what a sleeping page has missed is not made up for
      await sleep(due - performance.now());
    }
  }

  async send() {
    this.inFlight++;
    const began = performance.now();
    let lane = "no replica";
    try {
      const answer = await fetch(`/${this.service}/whoami`, {cache: "no-store", signal: AbortSignal.timeout(10_000)});
      if (!answer.ok) throw await refusal(answer);
      lane = (await answer.json()).instance;
      this.total++;
    } catch (error) {
      this.failed++;
      this.complaint = `${new Date().toLocaleTimeString()} ${explain(error)}`;
    }
    this.inFlight--;
    const at = performance.now();
    this.lane(lane).push({at, ms: at - began});
  }

  lane(name) {
    if (!this.lanes.has(name)) {
      const row = this.find("tbody").insertRow();
      row.innerHTML = `<th scope="row"><td><canvas role="img"></canvas><td class="number"><td class="number">`;
      row.cells[0].textContent = name;
      row.classList.toggle("bad", name === "no replica");
      this.lanes.set(name, Object.assign([], {row, count: 0}));
    }
    const lane = this.lanes.get(name);
    lane.count++;
    return lane;
  }

  draw(now) {
    const recent = [];
    for (const [name, lane] of this.lanes) {
      while (lane.length && lane[0].at < now - SHOWN) lane.shift();
      if (!lane.length && this.running) {  // long gone
        lane.row.remove();
        this.lanes.delete(name);
        continue;
      }
      if (!this.running && !lane.length) continue;
      const silent = (now - lane.at(-1).at) / 1000;
      const gone = this.running && silent > Math.max(2, 20 / this.rate);
      const times = lane.map(answer => answer.ms).sort((a, b) => a - b);
      const [, strip, count, median] = lane.row.cells;
      count.textContent = lane.count;
      median.textContent = gone ? `silent ${silent.toFixed(0)} s` : shorter(rank(times, 0.5));
      lane.row.classList.toggle("silent", gone);
      const {draw, width, height} = pen(strip.firstChild);
      if (name === "no replica") draw.fillStyle = colour("bad");
      for (const {at, ms} of lane) {
        draw.beginPath();
        draw.arc(width * (1 - (now - at) / SHOWN), (height - 6) * (1 - onScale(ms)) + 3, 2, 0, 7);
        draw.fill();
      }
      strip.firstChild.setAttribute("aria-label", `${times.length} answers in the last 30 s`);
      if (name !== "no replica") recent.push(...times);
    }
    if (recent.length) this.spread(recent.sort((a, b) => a - b));
    this.show("answers", this.total);
    this.show("failed", this.failed);
    this.show("held back", this.held);
    const complaint = this.find("p");
    if (complaint.textContent !== this.complaint) complaint.textContent = this.complaint;
  }

  spread(times) {
    for (const share of [50, 95, 99]) this.show(`p${share} ms`, shorter(rank(times, share / 100)));
    const canvas = this.find(".spread"), {draw, width, height} = pen(canvas), bins = Array(40).fill(0);
    for (const ms of times) bins[Math.min(39, Math.floor(onScale(ms) * 40))]++;
    const most = Math.max(...bins), floor = height - 16;
    bins.forEach((many, bin) => draw.fillRect(bin * width / 40, floor * (1 - many / most), width / 40 - 1, floor * many / most));
    draw.fillStyle = colour("soft");
    ["1 ms", "10", "100", "1 s"].forEach((label, decade) => draw.fillText(label, decade * width / 4, height - 3));
    canvas.setAttribute("aria-label", `Distribution of ${times.length} answer times, from ${shorter(times[0])} to ${shorter(times.at(-1))} ms`);
  }
}
