// Draws the charts and the list of trades of a report. Words from outside are set as text, and never told to plotly,
// which would read a little HTML in them.
(function () {
  "use strict";

  const PAGE_ROWS = 25;
  const KINDS = { entry: "Entry level", stop: "Stop", target: "Target", liquidation: "Liquidation" };
  const DASHES = { entry: "dot", stop: "dash", target: "dashdot", liquidation: "solid" };
  const OPTIONS = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };

  const curve = read("curve");
  const charts = read("charts");
  const listing = read("trades");
  const root = document.documentElement;

  function read(id) {
    return JSON.parse(document.getElementById(id).textContent);
  }

  function make(name, text, kind) {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  }

  // Only a real property tells which of its two colours holds.
  function colour(name) {
    root.style.caretColor = "var(--" + name + ")";
    const told = getComputedStyle(root).caretColor;
    root.style.caretColor = "";
    return told;
  }

  function moment(ms) {
    return new Date(ms).toISOString().slice(0, ms % 60000 ? 19 : 16).replace("T", " ");
  }

  function duration(ms) {
    const units = [["d", 86400000], ["h", 3600000], ["min", 60000], ["s", 1000]];
    const told = [];
    for (const [unit, length] of units) {
      const count = Math.floor(ms / length);
      if (count && told.length < 2) told.push(count + " " + unit);
      ms -= count * length;
    }
    return told.join(" ") || "0 s";
  }

  // Candles come as differences, see pipaid/reporting/charting.py.
  function unpack(blocks) {
    const candles = { x: [], open: [], high: [], low: [], close: [] };
    for (const block of blocks) {
      const scale = Math.pow(10, block.decimals);
      let at = block.start_ms;
      let last = 0;
      for (let index = 0; index < block.steps.length; index++) {
        const [open, high, low, close] = block.prices.slice(index * 4, index * 4 + 4);
        const first = last + open;
        at += block.steps[index] * block.step_ms;
        last = first + close;
        candles.x.push(at);
        candles.open.push(first / scale);
        candles.high.push((first + high) / scale);
        candles.low.push((first + low) / scale);
        candles.close.push(last / scale);
      }
    }
    return candles;
  }

  function axis(more) {
    return Object.assign({ gridcolor: colour("grid"), linecolor: colour("line"), zerolinecolor: colour("line"),
      automargin: true, fixedrange: false }, more);
  }

  function layout(more) {
    return Object.assign({
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("text"), size: 12 },
      margin: { l: 8, r: 8, t: 8, b: 8 }, dragmode: "zoom", showlegend: false,
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("accent") },
      legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: 12 } },
    }, more);
  }

  function drawEquity() {
    if (!curve.time_ms.length) return;
    const short = curve.time_ms.length < 40;
    const line = (name, y, tint, more) => Object.assign({ type: "scatter", name, x: curve.time_ms, y,
      mode: short ? "lines+markers" : "lines", line: { color: colour(tint), width: 1.6 } }, more);
    const traces = [
      line("Equity", curve.equity, "accent", { hovertemplate: "%{y:,.2f}" }),
      line("Drawdown", curve.drawdown, "fall", { yaxis: "y2", fill: "tozeroy", hovertemplate: "%{y:.2%}" }),
      { type: "bar", name: "In the market", x: curve.day_ms.map((at) => at + 43200000), y: curve.exposure, yaxis: "y3",
        width: 86400000, marker: { color: colour("exposure"), line: { width: 0 } }, hovertemplate: "%{y:.0%} of the day" },
    ];
    const title = (text) => ({ text, standoff: 6, font: { size: 12, color: colour("quiet") } });
    const ends = [curve.time_ms[0], curve.time_ms[curve.time_ms.length - 1]];
    const deepest = Math.min(...curve.drawdown);
    const [least, most] = [Math.min(...curve.equity), Math.max(...curve.equity)];
    const flat = least === most ? [least * 0.99, most * 1.01] : undefined;
    Plotly.react("equity", traces, layout({
      hovermode: "x unified",
      xaxis: axis({ type: "date", anchor: "y3", range: ends }),
      yaxis: axis({ domain: [0.45, 1], range: flat, title: title("Equity"), tickformat: ",.8~g", nticks: 7 }),
      yaxis2: axis({ domain: [0.21, 0.41], title: title("Drawdown"), tickformat: ".1~%", nticks: 4,
        range: [deepest * 1.08 || -0.05, 0] }),
      yaxis3: axis({ domain: [0, 0.16], title: title("Exposure"), tickformat: ".0%", range: [0, 1.05], nticks: 3 }),
    }), OPTIONS);
  }

  function candleTrace(blocks) {
    return Object.assign(unpack(blocks), {
      type: "candlestick", name: blocks[0].timeframe + " candles", showlegend: true, line: { width: 1 },
      increasing: { line: { color: colour("gain") }, fillcolor: colour("card") },
      decreasing: { line: { color: colour("loss") }, fillcolor: colour("loss") },
    });
  }

  function levelTraces(levels) {
    return Object.keys(KINDS).map((kind) => {
      const x = [], y = [];
      for (const [own, price, from, until] of levels) {
        if (own === kind) { x.push(from, until, null); y.push(price, price, null); }
      }
      return { type: "scatter", mode: "lines", name: KINDS[kind], x, y, connectgaps: false, opacity: 0.85,
        line: { color: colour(kind === "stop" ? "loss" : kind), width: 1.3, dash: DASHES[kind] },
        hovertemplate: KINDS[kind] + " %{y}<extra></extra>" };
    }).filter((trace) => trace.x.length);
  }

  function markTrace(name, symbol, tint, points, size) {
    return { type: "scatter", mode: "markers", name, x: points.map((point) => point[0]), y: points.map((point) => point[1]),
      text: points.map((point) => point[2]), hovertemplate: "%{text}<extra></extra>",
      marker: { symbol, size, color: colour(tint), line: { color: colour("card"), width: 1.2 } } };
  }

  function markTraces(marks) {
    const size = marks.length > 300 ? 5 : marks.length > 60 ? 7 : marks.length > 1 ? 10 : 13;
    const entry = (mark) => [mark[2], mark[3], "#" + mark[0] + (mark[1] > 0 ? " long" : " short") + " at " + mark[3]];
    const exit = (mark) => [mark[4], mark[5], "#" + mark[0] + " left at " + mark[5] + ": " + mark[6].toFixed(2)];
    return [
      markTrace("Long entry", "triangle-up", "text", marks.filter((mark) => mark[1] > 0).map(entry), size),
      markTrace("Short entry", "triangle-down", "text", marks.filter((mark) => mark[1] < 0).map(entry), size),
      markTrace("Exit, profit", "circle", "gain", marks.filter((mark) => mark[6] > 0).map(exit), size),
      markTrace("Exit, loss", "x", "loss", marks.filter((mark) => mark[6] <= 0).map(exit), size),
    ].filter((trace) => trace.x.length);
  }

  function drawCandles() {
    const place = document.getElementById("candles");
    if (!place) return;
    const choice = document.getElementById("symbol");
    const chart = charts[choice ? Number(choice.value) : 0];
    document.getElementById("notes").textContent = chart.notes.join(" ");
    const traces = levelTraces(chart.levels).concat(markTraces(chart.marks));
    if (chart.candles) traces.unshift(candleTrace([chart.candles]));
    drawPrices(place, traces);
  }

  function drawPrices(place, traces) {
    const times = traces.length && traces[0].type === "candlestick" ? traces[0].x : [];
    const step = times.length > 1 ? times[1] - times[0] : 60000;
    const range = times.length ? [times[0] - step, times[times.length - 1] + step] : undefined;
    Plotly.react(place, traces, layout({
      showlegend: true, hovermode: "closest",
      xaxis: axis({ type: "date", range, rangeslider: { visible: false } }),
      yaxis: axis({ tickformat: ",.10~g" }),
    }), OPTIONS);
  }

  // The list of trades: sorted by a column, a page at a time.
  const columns = [
    ["#", (row) => row[0], null],
    ["Side", (row) => row[1], null],
    ["Symbol", (row) => row[2], null],
    ["Entry", (row) => row[3], (row) => moment(row[3])],
    ["at", (row) => Number(row[4]), (row) => row[4]],
    ["Exit", (row) => row[5], (row) => moment(row[5])],
    ["at", (row) => Number(row[6]), (row) => row[6]],
    ["Quantity", (row) => Number(row[7]), (row) => row[7]],
    ["Net profit", (row) => Number(row[8]), (row) => row[8]],
    ["Fees", (row) => Number(row[9]), (row) => row[9]],
    ["Held", (row) => row[5] - row[3], (row) => duration(row[5] - row[3])],
    ["Left for", (row) => row[10], null],
  ];
  const numbers = new Set([4, 6, 7, 8, 9, 10]);
  const rows = listing.rows.slice();
  const view = { column: 0, down: false, page: 0, chosen: null };

  function sortRows() {
    const key = columns[view.column][1];
    const sign = view.down ? -1 : 1;
    rows.sort((one, other) => {
      const [left, right] = [key(one), key(other)];
      return (left < right ? -sign : left > right ? sign : 0) || one[0] - other[0];
    });
  }

  function headRow() {
    const head = make("tr");
    columns.forEach(([name], index) => {
      const cell = make("th", undefined, numbers.has(index) ? "number" : "");
      const arrow = view.column === index ? (view.down ? " ▼" : " ▲") : "";
      const button = make("button", name + arrow);
      cell.scope = "col";
      if (view.column === index) cell.setAttribute("aria-sort", view.down ? "descending" : "ascending");
      button.type = "button";
      button.addEventListener("click", () => {
        view.down = view.column === index ? !view.down : numbers.has(index);
        Object.assign(view, { column: index, page: 0 });
        sortRows();
        drawList();
        document.querySelectorAll(".trades th button")[index].focus();
      });
      cell.append(button);
      head.append(cell);
    });
    return head;
  }

  function tradeRow(row) {
    const line = make("tr", undefined, view.chosen === row[0] ? "chosen" : "");
    columns.forEach(([, key, shown], index) => {
      const cell = make("td", undefined, numbers.has(index) ? "number" : "");
      const text = shown ? shown(row) : String(key(row));
      if (index === 0) {
        const button = make("button", text);
        button.type = "button";
        button.title = "Show the candles around this trade";
        cell.append(button);
      } else {
        cell.textContent = text;
      }
      if (index === 8) cell.classList.add(Number(row[8]) > 0 ? "gain" : Number(row[8]) < 0 ? "loss" : "even");
      line.append(cell);
    });
    line.addEventListener("click", () => choose(row, line));
    return line;
  }

  function drawList() {
    const place = document.getElementById("list");
    if (!place) return;
    const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
    const from = view.page * PAGE_ROWS;
    const shown = rows.slice(from, from + PAGE_ROWS);
    const table = make("table", undefined, "trades");
    const head = make("thead"), body = make("tbody");
    head.append(headRow());
    body.append(...shown.map(tradeRow));
    table.append(head, body);
    const wide = make("div", undefined, "wide");
    wide.append(table);
    place.replaceChildren(wide);
    if (pages > 1) place.append(turning(pages, from, shown.length));
  }

  function turning(pages, from, count) {
    const bar = make("div", undefined, "turning");
    const steps = [["First", 0], ["Back", view.page - 1], ["Next", view.page + 1], ["Last", pages - 1]];
    const buttons = steps.map(([name, page], index) => {
      const button = make("button", name);
      button.type = "button";
      button.disabled = page < 0 || page >= pages || page === view.page;
      button.addEventListener("click", () => {
        view.page = page;
        drawList();
        document.querySelectorAll(".turning button")[index].focus();
      });
      return button;
    });
    const told = (from + 1) + "–" + (from + count) + " of " + rows.length.toLocaleString("en");
    bar.append(buttons[0], buttons[1], make("span", told), buttons[2], buttons[3]);
    return bar;
  }

  function choose(row, line) {
    view.chosen = row[0];
    document.querySelectorAll(".trades tr.chosen").forEach((each) => each.classList.remove("chosen"));
    line.classList.add("chosen");
    drawTrade();
    document.getElementById("trade").scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  function drawTrade() {
    const row = listing.rows.find((each) => each[0] === view.chosen);
    if (!row) return;
    const place = document.getElementById("trade");
    const chart = make("div", undefined, "chart");
    const blocks = row[11].map((number) => listing.blocks[number]);
    const overview = charts.find((each) => each.symbol === row[2]);
    const near = blocks.length > 0;
    const used = near ? blocks : overview && overview.candles ? [overview.candles] : [];
    const title = "Trade " + row[0] + ": " + row[1] + " " + row[7] + " " + row[2] + ", net " + row[8] + ", left for " + row[10];
    const told = near ? "Candles of " + used[0].timeframe + " around the trade." :
      used.length ? "The page holds no closer candles of this trade: it shows those of " + used[0].timeframe + "." :
        "There are no candles of this trade.";
    place.replaceChildren(make("h3", title), chart, make("p", told, "note"));
    const sign = row[1] === "buy" ? 1 : -1;
    const mark = [row[0], sign, row[3], Number(row[4]), row[5], Number(row[6]), Number(row[8])];
    const traces = levelTraces(row[12]).concat(markTraces([mark]));
    if (used.length) {
      const margin = (near ? 60 : 20) * used[0].step_ms;
      traces.unshift(candleTrace(used));
      keepNear(traces[0], row[3] - margin, row[5] + margin);
    }
    drawPrices(chart, traces);
  }

  function keepNear(trace, from, until) {
    const near = trace.x.map((at) => at >= from && at <= until);
    for (const name of ["x", "open", "high", "low", "close"]) trace[name] = trace[name].filter((_, index) => near[index]);
  }

  function drawCharts() {
    drawEquity();
    drawCandles();
    drawTrade();
  }

  function turnTheme() {
    const themes = ["", "light", "dark"];
    const theme = themes[(themes.indexOf(root.dataset.theme || "") + 1) % themes.length];
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    document.getElementById("theme").textContent = "Theme: " + (theme || "as the system");
    drawCharts();
  }

  document.getElementById("theme").addEventListener("click", turnTheme);
  const choice = document.getElementById("symbol");
  if (choice) choice.addEventListener("change", drawCandles);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
  drawList();
  drawCharts();
})();
