// Evaluation reports: a list, and the one that is opened, in a frame that may do nothing but show it.
// value: {reports: [{id, name, about, written}], unwritten: [name]}
(() => {
  const { make } = window.medley;

  window.medley.parts.reports = (element, props, trigger, watch) => {
    const place = make("div");
    const shown = make("div", { class: "m-report" });
    element.append(place, shown);
    let open = null;

    const show = (report) => {
      open = open === report.id ? null : report.id;
      const address = `medley/reports/${encodeURIComponent(report.id)}`;
      const frame = () => make("iframe", { src: address, sandbox: "", title: `Report ${report.name}`, loading: "lazy" });
      shown.replaceChildren(...(open ? [frame()] : []));
      draw();
    };

    const row = (report) => {
      const on = report.id === open;
      const button = make(
        "button",
        { type: "button", class: "m-chip", "aria-pressed": String(on), "aria-label": `${on ? "Close" : "Open"} ${report.name}`, onclick: () => show(report) },
        on ? "Close" : "Open"
      );
      const when = new Date(report.written * 1000).toLocaleString();
      return make("tr", { "data-id": report.id }, ...[report.name, report.about, when].map((text) => make("td", {}, text)), make("td", {}, button));
    };

    const draw = () => {
      const { reports, unwritten } = props.value;
      const notes = unwritten.map((name) => make("p", { class: "m-note" }, `${name} has no report yet: python app.py eval report ${name} writes it.`));
      if (!reports.length) {
        notes.unshift(make("p", { class: "m-note" }, "No reports yet. python app.py eval run … writes one; the folders that are looked in are those of --reports."));
        return place.replaceChildren(...notes);
      }
      const head = ["Report", "About", "Written", "Actions"].map((text) => make("th", { scope: "col" }, text));
      const table = make("table", { class: "m-table" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...reports.map(row)));
      place.replaceChildren(make("div", { class: "m-scroll", tabindex: "0", role: "region", "aria-label": "Reports" }, table), ...notes);
    };
    watch("value", draw);
    draw();
  };
})();
