// What a reader does with the page; the test reads what came of it.
"use strict";
(() => {
  // Each chart is there for wide and for narrow pages; one of them is shown.
  const charts = [...document.querySelectorAll("svg.chart")].filter((chart) => chart.getBoundingClientRect().width > 0);
  const readout = document.getElementById("readout");
  const found = {};
  found.charts = charts.map((chart) => {
    const series = [...chart.querySelectorAll(".series")];
    const box = chart.getBoundingClientRect();
    const outside = (path) => {
      const own = path.getBoundingClientRect();
      return own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1;
    };
    const paths = series.map((one) => one.querySelector("path"));
    return {
      name: chart.dataset.chart,
      curves: series.length,
      drawn: paths.filter((path) => path.getTotalLength() > 50).length,
      outside: paths.filter(outside).length,
    };
  });
  const [chart] = charts;
  const point = () => {
    chart.scrollIntoView();
    const box = chart.getBoundingClientRect();
    const [clientX, clientY] = [box.left + box.width / 2, box.top + box.height / 2];
    chart.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
  };
  point();
  found.readout = { rows: readout.hidden ? 0 : readout.children.length, text: readout.innerText };
  chart.dispatchEvent(new PointerEvent("pointerleave"));
  found.readout_after_leaving = readout.hidden;

  const key = chart.querySelector(".key[data-value=tcp-cubic]");
  const visible = () => [...document.querySelectorAll(".series[data-name=tcp-cubic]")]
    .filter((series) => getComputedStyle(series).display !== "none").length;
  key.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  found.visible_after_click = visible();
  point();
  found.rows_after_click = readout.children.length;
  key.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  found.visible_after_key = visible();
  const words = [...charts[0].querySelectorAll("text")].filter((text) => text.textContent);
  found.smallest_text_px = Math.min(...words.map((text) => text.getBoundingClientRect().height));
  const ticks = [...charts[0].querySelectorAll("text.tick[text-anchor=middle]")].filter((text) => text.textContent);
  const boxes = ticks.map((text) => text.getBoundingClientRect());
  found.colliding = boxes.filter((box, index) => index > 0 && box.left < boxes[index - 1].right).length;
  found.too_wide = document.documentElement.scrollWidth > innerWidth;

  const pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
})();
