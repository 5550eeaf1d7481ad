"use strict";
// Draws an icicle of the module tree of each measurement. The tables of the page hold the same numbers without it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const ROW = 25, LEAST = 2;
  const element = (tag, parent, fields = {}) => {
    const made = Object.assign(document.createElement(tag), fields);
    parent.append(made);
    return made;
  };
  const short = (value, metric) => {
    const { steps, unit } = data.metrics[metric];
    let best = [1, ""];
    for (const step of steps) if (Math.abs(value) >= step[0]) best = step;
    const scaled = value / best[0];
    return `${Number(scaled.toPrecision(4)).toLocaleString("en")} ${best[1]}${unit}`.trim();
  };
  const percent = (part, whole) => (whole ? `${(100 * part / whole).toFixed(1)}%` : "");

  for (const box of document.querySelectorAll(".icicle")) {
    const one = data.measurements[box.dataset.measurement];
    if (!one) continue;
    box.hidden = false;
    const controls = element("div", box, { className: "controls" });
    const metricLabel = element("label", controls, { textContent: "width" });
    const metrics = element("select", metricLabel);
    for (const key of one.keys) element("option", metrics, { value: key, textContent: data.metrics[key].title });
    const searchLabel = element("label", controls, { textContent: "search modules" });
    const search = element("input", searchLabel, { type: "search", placeholder: "name or class" });
    const out = element("button", controls, { type: "button", textContent: "whole model" });
    const views = one.changed ? ["baseline", "now"] : ["now"];
    const areas = views.map((view) => {
      if (views.length > 1) element("p", box, { className: "side", textContent: view });
      const bars = element("div", box, { className: "bars", tabIndex: 0 });
      bars.setAttribute("role", "application");
      bars.setAttribute("aria-label", `Module tree, ${view}. Arrow keys move, Enter zooms in, Escape zooms out.`);
      return bars;
    });
    const told = element("p", box, { className: "told" });
    told.setAttribute("role", "status");
    let root = one.tree, chosen = one.tree;
    const parents = new Map();
    (function link(node) {
      for (const child of node.below) { parents.set(child, node); link(child); }
    })(one.tree);
    const now = (node, metric) => node.now[metric] || 0;
    const value = (node, metric, view) => view === "now" ? now(node, metric) : node.before[metric] ?? now(node, metric);
    const change = (node, metric) => metric in node.before ? now(node, metric) - node.before[metric] : 0;

    const tell = () => {
      const metric = metrics.value, delta = change(chosen, metric);
      const grown = delta ? `, ${delta > 0 ? "+" : "\u2212"}${short(Math.abs(delta), metric)} against the baseline` : "";
      const kind = [chosen.kind, chosen.shape].filter(Boolean).join(" ");
      told.textContent = `${chosen.path || "the model"}: ${kind}. ${short(now(chosen, metric), metric)}, `
        + `${percent(now(chosen, metric), now(one.tree, metric))} of the model${grown}.`;
    };
    const draw = () => {
      const metric = metrics.value, wanted = search.value.trim().toLowerCase();
      const matches = (node) => !wanted || `${node.path} ${node.kind}`.toLowerCase().includes(wanted);
      areas.forEach((bars, number) => {
        const view = views[number], width = bars.clientWidth || 600;
        bars.replaceChildren();
        let deepest = 0;
        const total = value(root, metric, view);
        (function place(node, left, share, depth) {
          const wide = share * width;
          if (wide < LEAST) return;
          deepest = Math.max(deepest, depth);
          const delta = change(node, metric);
          const bar = element("div", bars, { className: "bar" });
          bar.textContent = wide > 30 ? node.name : "";
          Object.assign(bar.style, { left: `${100 * left}%`, width: `${100 * share}%`, top: `${depth * ROW}px` });
          if (delta) {
            // A module whose whole work is new or changed has the full colour; a part of it has a part of the colour.
            const share = Math.min(1, Math.abs(delta) / Math.max(now(node, metric), node.before[metric], 1));
            bar.classList.add(delta > 0 ? "more" : "less");
            // Between 60% and the full colour, neither black nor white text would be easy to read.
            bar.classList.toggle("strong", share > 0.5);
            bar.style.setProperty("--share", share > 0.5 ? "100%" : `${Math.round(15 + 90 * share)}%`);
          }
          if (!matches(node)) bar.classList.add("dim");
          if (node === chosen) bar.classList.add("chosen");
          bar.title = `${node.path || "the model"}: ${short(value(node, metric, view), metric)}`;
          bar.onclick = () => { root = chosen === node && node.below.length ? node : root; chosen = node; draw(); };
          let at = left;
          for (const child of node.below) {
            const part = value(node, metric, view) ? share * value(child, metric, view) / value(node, metric, view) : 0;
            place(child, at, part, depth + 1);
            at += part;
          }
        })(root, 0, total ? 1 : 0, 0);
        bars.style.height = `${(deepest + 1) * ROW}px`;
        if (!total) bars.textContent = `no ${data.metrics[metric].title}`;
      });
      tell();
    };
    const shown = (nodes, metric) => nodes.filter((node) => now(node, metric) || node.before[metric]);
    const keys = (event) => {
      const above = parents.get(chosen), metric = metrics.value;
      const beside = above && chosen !== root ? shown(above.below, metric) : [chosen];
      const place = beside.indexOf(chosen);
      const moves = {
        ArrowDown: () => shown(chosen.below, metric)[0],
        ArrowUp: () => (chosen === root ? null : above),
        ArrowRight: () => beside[place + 1],
        ArrowLeft: () => beside[place - 1],
        Home: () => root,
      };
      if (event.key in moves) chosen = moves[event.key]() || chosen;
      else if (event.key === "Enter" && chosen.below.length) root = chosen;
      else if (event.key === "Escape") { root = parents.get(root) || root; chosen = root; }
      else return;
      event.preventDefault();
      draw();
    };
    for (const bars of areas) bars.addEventListener("keydown", keys);
    metrics.onchange = draw;
    search.oninput = () => {
      const wanted = search.value.trim().toLowerCase();
      const found = wanted && [...parents.keys()].find((node) => `${node.path} ${node.kind}`.toLowerCase().includes(wanted));
      if (found) chosen = found;
      draw();
    };
    out.onclick = () => { root = chosen = one.tree; draw(); };
    addEventListener("resize", draw);
    if ("IntersectionObserver" in window) {
      new IntersectionObserver((seen, watcher) => {
        if (seen.some((entry) => entry.isIntersecting)) { watcher.disconnect(); draw(); }
      }, { rootMargin: "400px" }).observe(box);
    } else draw();
  }
})();
