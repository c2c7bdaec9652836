"use strict";
// Draws each figure when it comes into view, in the reader's light or dark colours, and in light ones on paper.
(() => {
  const { figures, dark: counterparts } = JSON.parse(document.getElementById("data").textContent);
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();
  const config = {
    displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: "secateur" },
    plotlyServerURL: "",
    topojsonURL: "",
  };

  const coloured = (value, dark) => {
    if (typeof value === "string") return (dark && counterparts[value]) || value;
    if (Array.isArray(value)) return value.map((item) => coloured(item, dark));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, dark)]));
  };

  const draw = (chart, dark = prefersDark.matches) => {
    const { data, layout } = coloured(figures[Number(chart.id.slice("figure-".length))], dark);
    drawn.add(chart);
    return Plotly.react(chart, data, layout, config);
  };

  const charts = document.querySelectorAll(".chart");
  const observer = new IntersectionObserver(
    (entries) =>
      entries
        .filter((entry) => entry.isIntersecting && !drawn.has(entry.target))
        .forEach((entry) => draw(entry.target)),
    { rootMargin: "400px" },
  );
  charts.forEach((chart) => observer.observe(chart));

  prefersDark.addEventListener("change", () => drawn.forEach((chart) => draw(chart)));
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((part) => (part.open = true));
    charts.forEach((chart) => draw(chart, false));
  });
  addEventListener("afterprint", () => drawn.forEach((chart) => draw(chart)));

  // A link to a folded part opens it.
  const reveal = () => {
    const part = location.hash && document.getElementById(location.hash.slice(1));
    if (part && part.tagName === "DETAILS") {
      part.open = true;
      part.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
