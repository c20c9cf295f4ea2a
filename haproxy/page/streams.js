// Open streams, and their log when a replica drains or dies.

import {Card, SHOWN, colour, duration, explain, figures, keep, pen, refusal, sleep} from "./card.js";

// Yield each event of a text/event-stream as an object with its fields.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let text = "", part; !(part = await reader.read()).done;) {
      const pieces = (text + part.value).replaceAll("\r\n", "\n").split("\n\n");
      text = pieces.pop();
      for (const piece of pieces) yield Object.fromEntries(piece.split("\n").map(line => /^([^:]*):? ?(.*)$/.exec(line).slice(1)));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export class Stream extends Card {
  constructor(article) {
    const {stream, path} = article.dataset, name = `${path.slice(1, 5).toUpperCase()}: ${stream}`;
    super(article, `<div class="row"><h3>${name}</h3><button></button></div>
      ${figures(["replica", "tick", "lost", "reopened", ...(stream === "WebSocket" ? ["round trip"] : [])])}
      <canvas class="ticks" role="img" aria-label="Ticks of the last 30 s"></canvas><div class="log" role="log" tabindex="0" aria-label="Log of ${name}"><ol></ol></div>`);
    this.path = path;
    this.socket = stream === "WebSocket";
    this.marks = [];
    this.lost = this.reopened = 0;
    this.toggle(["Open", "Close"], name, on => {
      this.stop?.abort();
      this.stop = on ? new AbortController() : null;
      if (on) this.hold(this.stop.signal);
      else this.note("closed by you");
    });
  }

  note(text) {
    const list = this.find("ol"), line = document.createElement("li"), time = document.createElement("time");
    if (list.firstChild?.lastChild.data === text) return;  // a retry with the same outcome
    time.textContent = new Date().toLocaleTimeString();
    line.append(time, text);
    list.prepend(line);
    if (list.children.length > 50) list.lastChild.remove();
  }

  async hold(signal) {
    this.n = this.instance = this.ended = undefined;
    for (let tries = 0; !signal.aborted; tries++) {
      let wait = 0;
      this.told = false;
      try {
        wait = await (this.socket ? this.speak(signal) : this.listen(signal));
      } catch (error) {
        if (signal.aborted) return;
        this.note(`${this.told ? "disconnected" : "not opened"}: ${explain(error)}`);
        wait = error.wait;
      }
      if (signal.aborted) return;
      if (this.told) tries = 0;
      if (this.n !== undefined) this.ended ??= performance.now();
      keep(this.marks, {at: performance.now(), end: true});
      await sleep(wait * (1 + Math.random()) || Math.random() * Math.min(5000, 300 * 2 ** tries));  // full jitter, so that clients do not all reconnect at once
    }
  }

  async listen(signal) {
    let retry = 0;
    const headers = {Accept: "text/event-stream", ...(this.n !== undefined && {"Last-Event-ID": this.n})};
    const answer = await fetch(this.path, {headers, cache: "no-store", signal});
    if (!answer.ok) throw await refusal(answer);
    for await (const event of events(answer.body)) {
      if (event.retry) retry = Math.min(5000, +event.retry);
      if (event.id) this.tick(JSON.parse(event.data));
    }
    this.note(`ended by the replica${retry ? `, retry in ${retry} ms` : ""}`);
    return retry;
  }

  speak(signal) {
    return new Promise((done, fail) => {
      const socket = new WebSocket(location.origin.replace("http", "ws") + this.path);
      const ping = setInterval(() => socket.readyState === 1 && socket.send(performance.now()), 2000);
      signal.onabort = () => socket.close();
      socket.onmessage = ({data}) => {
        const said = JSON.parse(data);
        if (said.type === "tick") this.tick(said);
        else this.show("round trip", duration(performance.now() - said.data));
      };
      socket.onclose = ({code, reason}) => {
        clearInterval(ping);
        if (signal.aborted) return done(0);
        if (code === 1006) return fail(new Error("no closing handshake (1006)"));
        this.note(`closed by the replica: ${code} ${reason}`);
        done(0);
      };
    });
  }

  tick({n, instance}) {
    const at = performance.now(), lost = this.n === undefined ? 0 : Math.max(0, n - this.n - 1);
    if (!this.told) {
      const after = this.ended && `${((at - this.ended) / 1000).toFixed(1)} s later`;
      this.reopened += !!after;
      this.note(after ? `resumed on ${instance} ${after}, ${lost || "none"} lost` : `opened on ${instance}`);
      keep(this.marks, {at, label: instance});
      this.told = true;
      this.ended = undefined;
    }
    this.lost += lost;
    keep(this.marks, {at});
    this.n = n;
    this.instance = instance;
  }

  draw(now) {
    const {draw, width, height} = pen(this.find("canvas"));
    for (const {at, label, end} of this.marks) {
      const x = width * (1 - (now - at) / SHOWN);
      if (label) draw.fillText(label, Math.min(x + 3, width - draw.measureText(label).width), 10);
      else if (end) {
        draw.save();
        draw.fillStyle = colour("bad");
        draw.fillText("✕", x - 4, height - 6);
        draw.restore();
      } else draw.fillRect(x, height - 14, 2, 12);
    }
    this.show("replica", this.stop ? this.ended ? "none" : this.instance ?? "…" : "–");
    this.show("tick", this.n ?? "–");
    this.show("lost", this.lost);
    this.show("reopened", this.reopened);
  }
}
