// The circuit viewer: draws the circuit of one method at one size, against the true one. No library, no network.
{
  const data = JSON.parse(document.getElementById("circuit-data").textContent);
  const root = document.getElementById("viewer");
  const [task, method, size] = ["task", "method", "size"].map((name) => root.querySelector(`[name=${name}]`));
  const svg = root.querySelector("svg.circuit");
  const counts = root.querySelector("[data-counts]");
  const about = root.querySelector("[data-about]");
  const list = root.querySelector("tbody");
  const WORDS = { found: "found", missed: "missed", added: "wrongly added", optional: "optional" };
  const NS = "http://www.w3.org/2000/svg";

  const element = (name, attributes, text) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const option = (text, value) => Object.assign(document.createElement("option"), { textContent: text, value });
  const view = () => data.views[task.value];
  const nodeOf = (reader) => reader.replace(/<[qkv]>$/, "");

  // Where nodes stand: inputs at the bottom, then a row of heads and one with the MLP for every layer, logits on top.
  function layout(graph) {
    const perLayer = graph.mlps && !graph.parallel ? 2 : 1;
    const rows = graph.layers * perLayer + 2;
    const across = Math.max(graph.heads + (graph.mlps ? 1 : 0), graph.inputs);
    const wide = across > 8 ? 58 : 84, high = perLayer === 2 ? 58 : 78, left = 20;
    const places = {}, y = (row) => 24 + (rows - 1 - row) * high;
    const middle = left + (across * wide) / 2;
    graph.writers.slice(0, graph.inputs).forEach((name, i) => {
      places[name] = { x: middle + (i - (graph.inputs - 1) / 2) * wide * 1.2, y: y(0) };
    });
    for (let layer = 0; layer < graph.layers; layer++) {
      const row = 1 + layer * perLayer;
      for (let head = 0; head < graph.heads; head++) {
        places[`a${layer}.h${head}`] = { x: left + wide * (head + 0.5), y: y(row) };
      }
      if (graph.mlps) places[`m${layer}`] = { x: left + wide * (across - 0.5), y: y(row + perLayer - 1) };
    }
    places.logits = { x: middle, y: y(rows - 1) };
    return { places, width: across * wide + 2 * left, height: rows * high + 10, half: wide > 60 ? 30 : 24 };
  }

  function path(from, to, shift, half) {
    const x1 = from.x, y1 = from.y - 11, x2 = to.x + shift * half * 0.62, y2 = to.y + 11;
    const rise = y1 - y2, near = Math.abs(x1 - x2) < half;
    // An edge past other nodes of its column bows out to the side, the further it goes the more.
    const bow = near && rise > 60 ? Math.min(24 + rise * 0.12, 90) * (x1 <= x2 ? -1 : 1) : 0;
    return `M${x1},${y1}C${x1 + bow},${y1 - rise * 0.45} ${x2 + bow},${y2 + rise * 0.45} ${x2},${y2}`;
  }

  function draw() {
    const now = view(), graph = data.graphs[now.graph], chosen = now.methods[method.value];
    const n = Number(size.value), width = graph.readers.length;
    const core = new Set(now.core), optional = new Set(now.optional), kept = new Set(chosen.edges.slice(0, n));
    const rank = new Map(chosen.edges.map((edge, i) => [edge, i]));
    const shown = [...new Set([...kept, ...core])].map((edge) => {
      const state = kept.has(edge) ? (core.has(edge) ? "found" : optional.has(edge) ? "optional" : "added") : "missed";
      const writer = graph.writers[Math.floor(edge / width)], reader = graph.readers[edge % width];
      const i = rank.get(edge);
      const place = i === undefined ? `rank beyond ${chosen.edges.length}` : `rank ${i + 1}, score ${chosen.scores[i]}`;
      return { edge, state, writer, reader, i, name: `${writer}\u2192${reader}`, text: `${WORDS[state]}, ${place}` };
    });
    const order = ["optional", "missed", "added", "found"];
    shown.sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || (a.i ?? 1e9) - (b.i ?? 1e9));

    const { places, width: across, height, half } = layout(graph);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${across} ${height}`);
    svg.style.maxWidth = `${across * 1.3}px`;
    const shifts = { q: -1, k: 0, v: 1 };
    for (const item of shown) {
      const part = item.reader.match(/<([qkv])>$/);
      const line = path(places[item.writer], places[nodeOf(item.reader)], part ? shifts[part[1]] : 0, half);
      const drawn = element("path", { d: line, class: `edge ${item.state}`, "data-edge": item.edge });
      const touch = element("path", { d: line, class: "touch", "data-edge": item.edge });
      touch.append(element("title", {}, `${item.name}: ${item.text}`));
      svg.append(drawn, touch);
    }
    const wide = (name) => Math.max(half, 4.2 * name.length);
    const used = new Set(shown.flatMap((item) => [item.writer, nodeOf(item.reader)]));
    for (const [name, { x, y }] of Object.entries(places)) {
      const group = element("g", { class: used.has(name) ? "node" : "node unused", role: "img" });
      if (used.has(name)) group.setAttribute("tabindex", 0);
      const mine = shown.filter((item) => item.writer === name || nodeOf(item.reader) === name);
      const text = `${name}: ${mine.length} edges${mine.length ? "; " : ""}${mine.map((e) => `${e.name} ${e.text}`).join("; ")}`;
      group.setAttribute("aria-label", text);
      group.append(
        element("rect", { x: x - wide(name), y: y - 11, width: 2 * wide(name), height: 22, rx: name.startsWith("m") ? 2 : 9 }),
        element("text", { x, y: y + 4, "text-anchor": "middle" }, name),
        element("title", {}, text.replaceAll("; ", "\n")),
      );
      const light = (on) => () => highlight(on ? new Set(mine.map((item) => item.edge)) : null, on ? text : "");
      for (const [event, on] of [["mouseenter", 1], ["focus", 1], ["mouseleave", 0], ["blur", 0]]) {
        group.addEventListener(event, light(on));
      }
      svg.append(group);
    }
    const number = (state) => shown.filter((item) => item.state === state).length;
    counts.textContent =
      `${n} of ${graph.edges} edges: ${number("found")} found, ${number("missed")} missed, ` +
      `${number("added")} wrongly added${now.optional.length ? `, ${number("optional")} optional` : ""}`;
    size.setAttribute("aria-valuetext", counts.textContent);
    svg.setAttribute("aria-label", `The circuit of ${chosen.label} on ${now.task}, ${now.ablation}: ${counts.textContent}`);
    list.replaceChildren(
      ...shown.reverse().map((item) => {
        const row = document.createElement("tr");
        const rankText = item.i === undefined ? "\u2013" : item.i + 1;
        const score = item.i === undefined ? "\u2013" : chosen.scores[item.i];
        for (const text of [item.name, WORDS[item.state], rankText, score]) {
          row.append(Object.assign(document.createElement("td"), { textContent: text }));
        }
        row.tabIndex = 0;
        row.addEventListener("focus", () => highlight(new Set([item.edge]), `${item.name}: ${item.text}`));
        row.addEventListener("blur", () => highlight(null, ""));
        return row;
      }),
    );
    about.textContent = "";
  }

  function highlight(edges, text) {
    about.textContent = text;
    svg.classList.toggle("dimmed", edges !== null);
    for (const drawn of svg.querySelectorAll(".edge")) {
      drawn.classList.toggle("lit", edges !== null && edges.has(Number(drawn.dataset.edge)));
    }
  }
  svg.addEventListener("mouseover", (event) => {
    if (event.target.classList.contains("touch")) {
      highlight(new Set([Number(event.target.dataset.edge)]), event.target.textContent);
    }
  });
  svg.addEventListener("mouseout", (event) => {
    if (event.target.classList.contains("touch")) highlight(null, "");
  });

  function choose() {
    const now = view();
    const label = method.selectedOptions[0]?.textContent;
    method.replaceChildren(...now.methods.map((item, i) => option(item.label, i)));
    const same = now.methods.findIndex((item) => item.label === label);
    method.value = same >= 0 ? same : 0;
    size.max = Math.max(...now.methods.map((item) => item.edges.length));
    size.value = now.core.length;
    draw();
  }
  task.replaceChildren(...data.views.map((item, i) => option(`${item.task}, ${item.ablation} ablation`, i)));
  task.addEventListener("change", choose);
  method.addEventListener("change", draw);
  size.addEventListener("input", draw);
  choose();
}
