// Requests that wait, all sent at once.

import {Card, at, duration, figures, sleep} from "./card.js";

const HOST_LIMIT = 6;  // connections that a browser opens per host
const PATIENCE = 20_000;

export class Waiting extends Card {
  constructor(article) {
    const service = article.dataset.waiting;
    super(article, `<h3>${service.toUpperCase()}</h3>${figures(["answered", "failed", "took", "in replicas", "in the queue"])}
      <div class="bars" role="img" aria-label="Nothing sent yet"></div><p class="bad" role="status"></p>`);
    this.service = service;
    this.frames = [];
    this.answers = [];
    this.opened = this.sent = 0;
  }

  // Open frames on other names of this host, one per six requests. Return false if the names do not resolve to it.
  async open(count) {
    if (!["127.0.0.1", "localhost"].includes(location.hostname)) return false;
    const missing = Array.from({length: Math.ceil(count / HOST_LIMIT) - this.frames.length}, () => {
      const frame = document.createElement("iframe"), host = `${this.service}-${this.opened++}.relay.localhost`;
      frame.hidden = true;
      frame.src = new URL("page/relay", location.href.replace(location.hostname, host));
      const heard = new AbortController();
      const ready = new Promise(done => addEventListener("message", ({source}) => {
        if (source === frame.contentWindow) done(frame);
      }, {signal: heard.signal}));
      document.body.append(frame);
      const came = Promise.race([ready, sleep(3000)]).finally(() => heard.abort());
      return came.then(found => found ?? frame.remove());
    });
    const opened = await Promise.all(missing);
    this.frames.push(...opened.filter(Boolean));
    return opened.every(Boolean);
  }

  async run(count, changed) {
    const began = Date.now();
    this.answers = [];
    await Promise.all(Array.from({length: count}, async (_, place) => {
      const answer = await this.relay(this.frames[place % this.frames.length], `${at(this.service)}wait?seconds=1`, began);
      this.answers.push({from: answer.began - began, to: answer.ended - began, ...answer});
      changed();
    }));
  }

  // Send a request through a frame. A reply that comes too late is ignored: ids tell replies apart.
  relay(frame, path, began) {
    const id = this.sent++, heard = new AbortController();
    const answer = new Promise(done => addEventListener("message", ({source, data}) => {
      if (source === frame.contentWindow && data.id === id) done(data);
    }, {signal: heard.signal}));
    frame.contentWindow.postMessage({id, path}, new URL(frame.src).origin);
    const none = sleep(PATIENCE).then(() => ({status: 0, began, ended: Date.now()}));
    return Promise.race([answer, none]).finally(() => heard.abort());
  }

  // Draw on a scale of `longest` milliseconds, shared by both services.
  draw(longest) {
    const bars = this.find(".bars"), good = this.answers.filter(({status}) => status === 200);
    const put = (tag, left, right, more) => {
      const mark = document.createElement(tag);
      mark.className = more.kind ?? "";
      mark.textContent = more.text ?? "";
      if (more.top !== undefined) mark.style.top = `${more.top}px`;
      mark.style.left = `${100 * left / longest}%`;
      if (right > left) mark.style.width = `${100 * (right - left) / longest}%`;
      bars.append(mark);
    };
    bars.replaceChildren();
    this.answers.forEach(({from, to, status, said}, row) => {
      const begun = status === 200 ? to - 1000 * said.waited : to;
      put("i", from, begun, {kind: status === 200 ? "queue" : "bad", top: 5 * row});
      if (status === 200) put("i", begun, to, {top: 5 * row});
    });
    for (let second = 1000; second < longest; second += 1000) put("s", second, second, {text: `${second / 1000} s`});
    bars.style.height = `${5 * this.answers.length + 20}px`;
    const took = good.length ? duration(Math.max(...good.map(({to}) => to))) : "–", failed = this.answers.length - good.length;
    this.show("answered", good.length);
    this.show("failed", failed);
    this.show("took", took);
    const complaints = this.answers.filter(({status}) => status !== 200).map(({status, said}) => said?.detail ?? (status || "no response"));
    this.find("p").textContent = [...new Set(complaints)].join("; ");
    bars.setAttribute("aria-label", `${good.length} responses, the last after ${took}; ${failed} failed`);
  }
}
