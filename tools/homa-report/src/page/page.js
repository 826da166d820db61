// Read-out under the pointer and curves that can be hidden. Everything can be read without it.
"use strict";
(() => {
  const readout = document.getElementById("readout");
  const visible = (chart) => [...chart.querySelectorAll(".series:not(.off)")];
  const pointsOf = (series) => (series.points ??= JSON.parse(series.dataset.points));

  // Index of the point whose x is closest; points come in order of x.
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle; else high = middle;
    }
    return high >= 0 && Math.abs(points[high][0] - x) < Math.abs(points[low][0] - x) ? high : low;
  };

  const line = (series, words) => {
    const row = document.createElement("div");
    const swatch = document.createElement("i");
    const path = series.querySelector(".curve, .area, .mark");
    const style = getComputedStyle(path);
    swatch.style.color = path.classList.contains("curve") ? style.stroke : style.fill;
    const name = [series.dataset.name, series.dataset.part].filter(Boolean).join(" ");
    row.append(swatch, `${name}: ${words}`);
    return row;
  };

  const show = (chart, x, left, top) => {
    const rows = [];
    let best = null;
    for (const series of visible(chart)) {
      const points = pointsOf(series);
      if (!points.length) continue;
      const point = points[nearest(points, x)];
      rows.push(line(series, point[2]));
      if (best === null || Math.abs(point[0] - x) < Math.abs(best - x)) best = point[0];
    }
    if (!rows.length) return hide(chart);
    const cursor = chart.querySelector(".cursor");
    cursor.setAttribute("x1", best);
    cursor.setAttribute("x2", best);
    cursor.setAttribute("visibility", "visible");
    readout.replaceChildren(...rows);
    readout.hidden = false;
    const box = readout.getBoundingClientRect();
    const beside = left + 16 + box.width < innerWidth ? left + 16 : left - 16 - box.width;
    readout.style.left = `${Math.max(4, beside)}px`;
    readout.style.top = `${Math.max(4, Math.min(top + 12, innerHeight - box.height - 8))}px`;
  };

  const hide = (chart) => {
    chart.querySelector(".cursor").setAttribute("visibility", "hidden");
    readout.hidden = true;
  };

  for (const chart of document.querySelectorAll("svg.chart")) {
    chart.addEventListener("pointermove", (event) => {
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
      const inside = place.y >= Number(chart.dataset.top) - 4 && place.y <= Number(chart.dataset.bottom) + 4;
      if (inside) show(chart, place.x, event.clientX, event.clientY); else hide(chart);
    });
    chart.addEventListener("pointerleave", () => hide(chart));
  }

  // A transport that is hidden in one plot is hidden in all.
  const off = new Set();
  const apply = () => {
    for (const series of document.querySelectorAll(".series")) {
      series.classList.toggle("off", off.has(`name ${series.dataset.name}`) || off.has(`part ${series.dataset.part}`));
    }
    for (const key of document.querySelectorAll(".key")) {
      const hidden = off.has(`${key.dataset.hides} ${key.dataset.value}`);
      key.classList.toggle("off", hidden);
      key.setAttribute("aria-pressed", String(!hidden));
    }
  };
  const toggle = (key) => {
    const what = `${key.dataset.hides} ${key.dataset.value}`;
    if (!off.delete(what)) off.add(what);
    apply();
  };
  for (const key of document.querySelectorAll(".key")) {
    key.classList.add("live");
    key.setAttribute("role", "button");
    key.setAttribute("tabindex", "0");
    key.setAttribute("aria-label", `show ${key.dataset.value}`);
    // A picture has no parts for those who cannot see it; now it has.
    key.closest("svg").setAttribute("role", "group");
    key.addEventListener("click", () => toggle(key));
    key.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle(key);
    });
  }
  apply();
})();
