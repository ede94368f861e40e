// The script of a replay's page. Whatever comes from the log is set as text, never as HTML.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const chooser = document.getElementById("contact");
const only = document.getElementById("only");
const views = new Map();

function theme() {
  const css = getComputedStyle(document.documentElement);
  const value = (name) => css.getPropertyValue(name).trim();
  const text = value("--text"), soft = value("--soft"), line = value("--line");
  const font = value("--font");
  return {
    background: "transparent",
    font,
    view: { stroke: null },
    axis: {
      labelColor: text, labelFontSize: 12, gridColor: line, domainColor: line, tickColor: line,
      labelOverlap: true, labelPadding: 8, titleColor: soft,
    },
    axisTemporal: { labelColor: soft, labelSeparation: 12, labelPadding: 4 },
    legend: { labelColor: text, labelFontSize: 13, symbolSize: 300, symbolStrokeWidth: 3, labelLimit: 280 },
    text: { color: text, fontSize: 13 },
    range: { category: value("--colours").split(/\s+/) },
    style: { ticket: { fill: text, fontSize: 12 } },
  };
}

async function draw(element, spec) {
  views.get(element)?.finalize();
  const found = await vegaEmbed(element, spec, { actions: false, renderer: "svg", ast: true, config: theme() });
  views.set(element, found);
}

function moment(milliseconds) {
  return new Date(milliseconds).toISOString().replace("T", " ").slice(0, 19);
}

function spansOf(contact, policy, end) {
  return contact.spans.filter((span) => span.policy === policy).map((span) => ({
    policy: data.policies[policy],
    connection: String(span.connection),
    ticket: `#${span.ticket}`,
    begin: span.begin,
    end: span.end ?? end,
    from: moment(span.begin),
    to: span.end === null ? "still active" : moment(span.end),
  }));
}

// A label is left out where it would run into the one before it.
function label(spans, perPixel) {
  const taken = new Map();
  for (const span of [...spans].sort((one, other) => one.begin - other.begin)) {
    const free = span.begin >= (taken.get(span.connection) ?? -Infinity);
    span.label = free ? span.ticket : "";
    if (free) taken.set(span.connection, span.begin + (span.ticket.length * 7 + 10) * perPixel);
  }
  return spans;
}

function marksOf(contact, policy) {
  return contact.marks.map((mark) => {
    const [outcome, reason, ticket, where] = mark.answers[policy];
    const differs = mark.answers.some((each) => each[0] !== mark.answers[0][0] || each[1] !== mark.answers[0][1]);
    return {
      connection: String(where ?? mark.connection), at: mark.at, outcome, reason, differs, kind: mark.kind,
      message: String(mark.message ?? "–"), time: moment(mark.at), ticket: ticket === null ? "–" : `#${ticket}`,
    };
  });
}

function timeAxis(begin, end, width) {
  const long = end - begin > 6 * 86_400_000;
  return { tickCount: Math.max(2, Math.floor(width / 130)), format: long ? "%b %d, %Y" : "%b %d, %H:%M", grid: false };
}

function laneSpec(contact, policy, connections, begin, end, width) {
  const spec = structuredClone(data.lanes[policy]), css = getComputedStyle(document.documentElement);
  const room = Math.max(120, width - 130);
  spec.height *= connections.length;
  spec.datasets.spans = label(spansOf(contact, policy, end), Math.max(1, end - begin) / room);
  spec.datasets.marks = marksOf(contact, policy);
  spec.datasets.differing = spec.datasets.marks.filter((mark) => mark.differs);
  spec.datasets.edges = [{ at: begin }, { at: end }];
  // An empty dataset has no extent, of which Vega would complain.
  spec.layer = spec.layer.filter((layer) => spec.datasets[layer.data.name].length > 0);
  for (const { mark, encoding } of spec.layer) {
    if (mark.style === "message") Object.assign(mark, { fill: css.getPropertyValue("--text").trim(), stroke: css.getPropertyValue("--card").trim(), strokeWidth: 0.8 });
    if (mark.style === "differs") Object.assign(mark, { stroke: css.getPropertyValue("--accent").trim(), strokeWidth: 2.2 });
    if (encoding.y) encoding.y.scale.domain = connections;
    encoding.x.axis = timeAxis(begin, end, width);
  }
  return spec;
}

function row(cells, tag = "td") {
  const line = document.createElement("tr");
  for (const text of cells) line.appendChild(document.createElement(tag)).textContent = text;
  return line;
}

async function show(number) {
  const contact = data.contacts[number];
  if (contact === undefined) return;
  chooser.value = String(number);
  const open = contact.spans.some((span) => span.end === null);
  const times = [...contact.marks.map((mark) => mark.at), ...contact.spans.map((span) => span.end ?? span.begin)];
  const begin = Math.min(...times), end = Math.max(...times, open ? data.end : -Infinity);
  const connections = [...new Set([...contact.marks, ...contact.spans].map((each) => String(each.connection)))].sort();
  const tickets = document.querySelector("#tickets tbody");
  tickets.replaceChildren();
  await Promise.all(data.policies.map((name, policy) => {
    for (const span of spansOf(contact, policy, end)) {
      tickets.append(row([name, span.ticket, span.connection, span.from, span.to]));
    }
    const element = document.getElementById(`lanes-${policy}`);
    return draw(element, laneSpec(contact, policy, connections, begin, end, element.clientWidth));
  }));
  filter();
}

function filter() {
  let shown = 0;
  for (const line of document.querySelectorAll("#differences tbody tr")) {
    line.hidden = only.checked && line.dataset.contact !== chooser.value;
    shown += line.hidden ? 0 : 1;
  }
  document.getElementById("shown").textContent = `${shown.toLocaleString("en")} shown`;
}

function swatches() {
  const colours = getComputedStyle(document.documentElement).getPropertyValue("--colours").trim().split(/\s+/);
  for (const title of document.querySelectorAll("[data-policy]")) {
    title.style.setProperty("--swatch", colours[title.dataset.policy % colours.length]);
  }
}

async function drawAll() {
  swatches();
  const measures = data.measures.map(({ spec }, number) => draw(document.getElementById(`measure-${number}`), structuredClone(spec)));
  const element = document.getElementById("timeline"), timeline = structuredClone(data.timeline);
  await Promise.all(measures);
  if (data.begin !== null) {
    timeline.encoding.x.axis = timeAxis(data.begin, data.end, element.clientWidth);
    await draw(element, timeline);
  }
  await show(chooser.value === "" ? 0 : Number(chooser.value));
  document.documentElement.dataset.drawn = "yes";
}

chooser.addEventListener("change", () => show(Number(chooser.value)));
only.addEventListener("change", filter);
document.getElementById("differences").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button === null) return;
  show(Number(button.dataset.contact));
  document.getElementById("one").scrollIntoView();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
