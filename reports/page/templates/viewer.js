// The circuit viewer: draws a circuit at any size, by itself or against the true one. No library, no network.
{
  const data = JSON.parse(document.getElementById("circuit-data").textContent);
  const root = document.getElementById("viewer");
  const [task, method, size] = ["task", "method", "size"].map((name) => root.querySelector(`[name=${name}]`));
  const svg = root.querySelector("svg.circuit");
  const counts = root.querySelector("[data-counts]");
  const about = root.querySelector("[data-about]");
  const list = root.querySelector("tbody");
  const WORDS = {
    found: "found", missed: "missed", added: "wrongly added", optional: "optional", inert: "inert",
    positive: "score above 0", negative: "score below 0", kept: "in the circuit",
  };
  // Faint ones first, so that what matters lies on top.
  const ORDER = ["inert", "optional", "missed", "kept", "added", "negative", "positive", "found"];
  const MANY = 90; // nodes beyond which those that no edge touches are left out
  const MISSING = data.missing;
  const counted = (n) => n.toLocaleString("en"); // as tables write counts; scores come as texts
  const NS = "http://www.w3.org/2000/svg";
  let chosenNode = null;

  const element = (name, attributes, text) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const option = (text, value) => Object.assign(document.createElement("option"), { textContent: text, value });
  const view = () => data.views[task.value];
  const nodeOf = (reader) => reader.replace(/@\d+$/, "").replace(/<[qkv]>$/, "");

  // Where nodes stand: inputs at the bottom, then a row of heads and one with the MLP for every layer, logits on top.
  // Features and the error node of a component stand in its row.
  function layout(graph, used) {
    const whole = graph.rows.reduce((n, row) => n + row.length, 0) <= MANY;
    const shown = graph.rows.map((row) => (whole ? row : row.filter((name) => used.has(name)))).filter((row) => row.length);
    const most = Math.max(...shown.map((row) => row.length));
    const longest = Math.max(...shown.flat().map((name) => (name.includes("embed") ? 0 : name.length)));
    const wide = Math.max(most > 8 ? 58 : 84, 8.4 * longest + 10), left = 20;
    const high = whole ? (shown.length > 4 ? 58 : 78) : 50;
    const places = {};
    shown.forEach((row, i) => {
      const heads = whole && row.every((name) => /^a\d+\.h/.test(name));
      const mlp = whole && row.length === 1 && /^m\d+$/.test(row[0]);
      row.forEach((name, j) => {
        const x = heads ? left + wide * (j + 0.5)
          : mlp ? left + wide * (most - 0.5)
          : left + (most * wide) / 2 + (j - (row.length - 1) / 2) * (name.includes("embed") ? wide * 1.2 : wide);
        places[name] = { x, y: 24 + (shown.length - 1 - i) * high };
      });
    });
    return { places, width: most * wide + 2 * left, height: shown.length * high + 10, half: wide > 60 ? 30 : 24 };
  }

  // The line of an edge, and how far it goes to the left and to the right.
  function path(from, to, shift, half) {
    const x1 = from.x, y1 = from.y - 11, x2 = to.x + shift * half * 0.62, y2 = to.y + 11;
    const rise = y1 - y2, near = Math.abs(x1 - x2) < half;
    // An edge past other nodes of its column bows out to the side, the further it goes the more.
    const bow = near && rise > 60 ? Math.min(24 + rise * 0.12, 90) * (x1 <= x2 ? -1 : 1) : 0;
    const line = `M${x1},${y1}C${x1 + bow},${y1 - rise * 0.45} ${x2 + bow},${y2 + rise * 0.45} ${x2},${y2}`;
    return { line, least: Math.min(x1, x2) + Math.min(bow, 0), most: Math.max(x1, x2) + Math.max(bow, 0) };
  }

  // The edges that are drawn at this size, each with what it is and what is said of it.
  function edgesShown(now, graph, chosen, n) {
    const width = graph.readers.length, judged = now.core !== null;
    const core = new Set(now.core ?? []), optional = new Set(now.optional ?? []), kept = new Set(chosen.edges.slice(0, n));
    const rank = new Map(chosen.edges.map((edge, i) => [edge, i]));
    const state = (edge) => {
      if (kept.has(edge) && !judged) {
        const score = chosen.scores?.[rank.get(edge)];
        return score === undefined ? "kept" : score < 0 ? "negative" : "positive";
      }
      if (kept.has(edge)) return core.has(edge) ? "found" : optional.has(edge) ? "optional" : "added";
      return core.has(edge) ? "missed" : "inert";
    };
    return [...new Set([...kept, ...core, ...(now.inert ?? [])])].map((edge) => {
      const writer = graph.writers[Math.floor(edge / width)], reader = graph.readers[edge % width], i = rank.get(edge);
      const score = chosen.scores?.[i];
      const place = i === undefined ? (chosen.scores ? `rank beyond ${chosen.edges.length}` : "")
        : score === undefined ? "" : `rank ${i + 1}, score ${chosen.texts[i]}`;
      const kind = state(edge);
      const text = [WORDS[kind], place, now.notes?.[edge]].filter(Boolean).join(", ");
      return { edge, state: kind, writer, reader, node: nodeOf(reader), i, score, kept: kept.has(edge), name: `${writer}\u2192${reader}`, text };
    });
  }

  // Nodes that the edges lead to from `start`; towards the logits, or back towards the inputs.
  function reached(edges, start, back = false) {
    const found = new Set(start), nodes = new Set();
    const next = new Map();
    for (const item of edges) {
      const [from, to] = back ? [item.node, item.writer] : [item.writer, item.node];
      next.set(from, [...(next.get(from) ?? []), [to, item.edge]]);
    }
    const lit = new Set(), open = [...start];
    while (open.length) {
      for (const [to, edge] of next.get(open.pop()) ?? []) {
        lit.add(edge);
        if (!found.has(to)) { found.add(to); nodes.add(to); open.push(to); }
      }
    }
    return { nodes: found, edges: lit };
  }

  function draw() {
    const now = view(), graph = data.graphs[now.graph], chosen = now.methods[method.value], n = Number(size.value);
    const shown = edgesShown(now, graph, chosen, n);
    shown.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.i ?? 1e9) - (b.i ?? 1e9));
    const used = new Set([...shown.flatMap((item) => [item.writer, item.node]), "logits"]);
    const { places, width: across, height, half } = layout(graph, used);
    // Without a path: the circuit's edges lead into it and none of them on to the logits, or out of it and none into it.
    const circuit = shown.filter((item) => item.kept);
    const reading = new Set(graph.readers.map(nodeOf)); // inputs read nothing, nor do the error nodes of dictionaries
    const fromInputs = reached(circuit, graph.writers.filter((name) => !reading.has(name))).nodes;
    const toLogits = reached(circuit, ["logits"], true).nodes;
    const inCircuit = new Set(circuit.flatMap((item) => [item.writer, item.node]));
    const dead = new Set([...inCircuit].filter((name) => !fromInputs.has(name) || !toLogits.has(name)));
    const largest = Math.max(...(chosen.scores ?? [0]).map(Math.abs)) || 1;

    svg.replaceChildren();
    let least = 0, most = across; // what is drawn lies between; edges that bow out go beyond the nodes
    const shifts = { q: -1, k: 0, v: 1 };
    for (const item of shown) {
      const part = item.reader.match(/<([qkv])>/);
      const { line, ...reach } = path(places[item.writer], places[item.node], part ? shifts[part[1]] : 0, half);
      least = Math.min(least, reach.least);
      most = Math.max(most, reach.most);
      const drawn = element("path", { d: line, class: `edge ${item.state}`, "data-edge": item.edge });
      if (item.score !== undefined && item.kept) {
        drawn.style.strokeWidth = (0.8 + 3.2 * Math.abs(item.score) / largest).toFixed(2);
      }
      const touch = element("path", { d: line, class: "touch", "data-edge": item.edge });
      touch.append(element("title", {}, `${item.name}: ${item.text}`));
      svg.append(drawn, touch);
    }
    svg.setAttribute("viewBox", `${least} 0 ${most - least} ${height}`);
    svg.style.maxWidth = `${(most - least) * 1.3}px`;
    const wide = (name) => Math.max(half, 4.2 * name.length);
    for (const [name, { x, y }] of Object.entries(places)) {
      const kind = ["node", used.has(name) ? "" : "unused", dead.has(name) ? "dead" : ""].filter(Boolean).join(" ");
      const group = element("g", { class: kind, role: used.has(name) ? "button" : "img" });
      if (used.has(name)) group.setAttribute("tabindex", 0);
      const mine = shown.filter((item) => item.writer === name || item.node === name);
      const writes = now.writes?.[name] ? `writes ${now.writes[name]}; ` : "";
      const end = dead.has(name) ? "on no path; " : "";
      const text = `${name}: ${end}${writes}${mine.length} edges${mine.length ? "; " : ""}${mine.map((e) => `${e.name} ${e.text}`).join("; ")}`;
      group.setAttribute("aria-label", text);
      group.append(
        element("rect", { x: x - wide(name), y: y - 11, width: 2 * wide(name), height: 22, rx: name.startsWith("m") ? 2 : 9 }),
        element("text", { x, y: y + 4, "text-anchor": "middle" }, name),
        element("title", {}, text.replaceAll("; ", "\n")),
      );
      const light = (on) => () => {
        if (chosenNode === null) highlight(on ? new Set(mine.map((item) => item.edge)) : null, on ? text : "");
      };
      for (const [event, on] of [["mouseenter", 1], ["focus", 1], ["mouseleave", 0], ["blur", 0]]) {
        group.addEventListener(event, light(on));
      }
      const follow = () => {
        chosenNode = chosenNode === name ? null : name;
        if (chosenNode === null) return highlight(null, "");
        const up = reached(shown.filter((e) => e.state !== "inert"), [name], true);
        const down = reached(shown.filter((e) => e.state !== "inert"), [name]);
        highlight(new Set([...up.edges, ...down.edges]),
          `${name}: upstream ${up.nodes.size - 1} nodes (${[...up.nodes].slice(1).join(", ")}); ` +
          `downstream ${down.nodes.size - 1} (${[...down.nodes].slice(1).join(", ")}). Choose it again to see all.`);
      };
      group.addEventListener("click", follow);
      group.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); follow(); }
      });
      svg.append(group);
    }
    const number = (state) => shown.filter((item) => item.state === state).length;
    const parts = now.core !== null
      ? [`${counted(number("found"))} found`, `${counted(number("missed"))} missed`, `${counted(number("added"))} wrongly added`,
        ...(now.optional?.length ? [`${counted(number("optional"))} optional`] : [])]
      : chosen.scores ? [`${counted(number("positive"))} with a score above 0`, `${counted(number("negative"))} below`] : [];
    // By position, an edge may be on no path whose nodes are on others: how many are is not told from nodes.
    const byPosition = graph.readers.some((name) => name.includes("@"));
    const ends = circuit.filter((item) => !fromInputs.has(item.writer) || !toLogits.has(item.node)).length;
    if (ends && !byPosition) parts.push(`${counted(ends)} dead ends`);
    if (dead.size) parts.push(`${counted(dead.size)} nodes without a path${now.size > n ? " of these" : ""} (dashed)`);
    const whole = now.size > n ? ` (the circuit has ${counted(now.size)})` : "";
    counts.textContent = `${counted(n)} of ${counted(graph.edges)} edges${whole}${parts.length ? ": " : ""}${parts.join(", ")}`;
    size.setAttribute("aria-valuetext", counts.textContent);
    svg.setAttribute("aria-label", `The circuit of ${chosen.label} on ${now.task}: ${counts.textContent}`);
    for (const key of root.querySelectorAll(".key [data-state]")) {
      key.hidden = !(now.core === null ? ["positive", "negative", "kept"] : ["found", "missed", "added", "optional", "inert"])
        .filter((state) => number(state) || ["found", "missed", "added"].includes(state)).includes(key.dataset.state);
    }
    list.replaceChildren(
      ...shown.reverse().map((item) => {
        const row = document.createElement("tr");
        const rankText = item.i === undefined || item.score === undefined ? MISSING : item.i + 1;
        const score = item.score === undefined ? MISSING : chosen.texts[item.i];
        for (const text of [item.name, WORDS[item.state], rankText, score]) {
          row.append(Object.assign(document.createElement("td"), { textContent: text }));
        }
        row.tabIndex = 0;
        row.addEventListener("focus", () => highlight(new Set([item.edge]), `${item.name}: ${item.text}`));
        row.addEventListener("blur", () => highlight(null, ""));
        return row;
      }),
    );
    chosenNode = null;
    about.textContent = "";
    svg.classList.remove("dimmed");
  }

  function highlight(edges, text) {
    about.textContent = text;
    svg.classList.toggle("dimmed", edges !== null);
    for (const drawn of svg.querySelectorAll(".edge")) {
      drawn.classList.toggle("lit", edges !== null && edges.has(Number(drawn.dataset.edge)));
    }
  }
  svg.addEventListener("mouseover", (event) => {
    if (chosenNode === null && event.target.classList.contains("touch")) {
      highlight(new Set([Number(event.target.dataset.edge)]), event.target.textContent);
    }
  });
  svg.addEventListener("mouseout", (event) => {
    if (chosenNode === null && event.target.classList.contains("touch")) highlight(null, "");
  });

  function choose() {
    const now = view();
    const label = method.selectedOptions[0]?.textContent;
    method.replaceChildren(...now.methods.map((item, i) => option(item.label, i)));
    const same = now.methods.findIndex((item) => item.label === label);
    method.value = same >= 0 ? same : 0;
    size.max = Math.max(...now.methods.map((item) => item.edges.length));
    size.value = now.start ?? now.size ?? now.core.length;
    draw();
  }
  task.replaceChildren(...data.views.map((item, i) => option(item.title ?? `${item.task}, ${item.ablation} ablation`, i)));
  task.addEventListener("change", choose);
  method.addEventListener("change", draw);
  size.addEventListener("input", draw);
  choose();
}
