// Shared by the experiments: cards with figures, canvas drawing, error texts.

export const SHOWN = 30_000;  // ms of history
const SLOWEST = 10_000;  // ms, the end of the scale

// The URL where a service is. HAProxy fills in its setting: a path, or a host and a path.
export function at(service) {
  const address = document.documentElement.dataset[service];
  return address.startsWith("/") ? address : `//${address.replace("/", `${location.port && `:${location.port}`}/`)}`;
}

export const sleep = ms => new Promise(done => setTimeout(done, ms));
export const duration = ms => ms < 10 ? `${ms.toFixed(1)} ms` : ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;

// Append an entry and drop those too old to be shown.
export function keep(list, entry) {
  list.push(entry);
  const first = list.findIndex(({at}) => at >= entry.at - SHOWN);
  if (first > 0) list.splice(0, first);
}

export function explain(error) {
  if (error.name === "TimeoutError") return "no response within 10 s";
  if (error.name === "SyntaxError") return "the response is not JSON";
  return error instanceof TypeError ? "the connection failed" : error.message;
}

export async function refusal(answer) {
  const said = await answer.json().catch(() => ({}));
  return Object.assign(new Error(`${answer.status} ${said.detail ?? answer.statusText}`),
    {wait: 1000 * (answer.headers.get("Retry-After") ?? 0)});
}

// Clear a canvas and return its context, scaled to CSS pixels and in the service's colour.
export function pen(canvas) {
  const {clientWidth: width, clientHeight: height} = canvas, scale = devicePixelRatio;
  const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== across || canvas.height !== down) [canvas.width, canvas.height] = [across, down];
  const draw = canvas.getContext("2d");
  draw.setTransform(scale, 0, 0, scale, 0, 0);
  draw.clearRect(0, 0, width, height);
  draw.fillStyle = draw.strokeStyle = getComputedStyle(canvas).color;
  draw.font = "11px system-ui, sans-serif";
  return {draw, width, height};
}

export const colour = name => getComputedStyle(document.body).getPropertyValue(`--${name}`);
export const onScale = ms => Math.log10(Math.min(Math.max(ms, 1), SLOWEST)) / Math.log10(SLOWEST);  // 0 to 1, logarithmic

export function figures(names) {
  return `<dl>${names.map(name => `<div><dt>${name}</dt><dd data-figure="${name}">–</dd></div>`).join("")}</dl>`;
}

export class Card {
  constructor(article, html) {
    article.innerHTML = html;
    this.article = article;
  }
  find(selector) { return this.article.querySelector(selector); }
  // Make the button a switch: `act` gets true when it is on.
  toggle([start, end], what, act) {
    const button = this.find("button");
    const set = on => {
      button.className = on ? "on" : "";
      button.textContent = on ? end : start;
      button.ariaLabel = `${button.textContent} ${what}`;
    };
    button.onclick = () => {
      const on = !button.className;
      set(on);
      act(on);
    };
    set(false);
  }
  show(name, value) {
    const cell = this.find(`[data-figure="${name}"]`);
    if (cell.textContent !== String(value)) cell.textContent = value;
  }
}
