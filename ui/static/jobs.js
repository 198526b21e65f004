// The queue and what became of earlier jobs, with what can be done about each.
// value: {jobs: [{id, state, kind, about, loras, method, pictures, created, error}]}
(() => {
  const { make } = window.medley;
  const ACTIONS = {
    waiting: [["up", "Earlier"], ["down", "Later"], ["cancel", "Cancel"]],
    running: [["cancel", "Cancel"]],
    failed: [["resume", "Try again"]],
    quarantined: [["resume", "Try again"]],
    cancelled: [["resume", "Resume"]],
    done: [["show", "Show"]],
  };

  window.medley.parts.jobs = (element, props, trigger, watch) => {
    const row = (job) => {
      const buttons = ACTIONS[job.state].map(([action, text]) =>
        make("button", { type: "button", class: "m-chip", "aria-label": `${text}: ${job.about}`, onclick: () => trigger("pick", { id: job.id, action }) }, text)
      );
      const state = make("td", {}, make("strong", {}, job.state), job.error ? make("small", { class: "m-error" }, ` ${job.error}`) : null);
      const count = `${job.pictures} ${job.pictures === 1 ? "picture" : "pictures"}`;
      const when = new Date(job.created * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
      const cells = [job.kind, job.about, job.loras, job.method, count, when].map((text) => make("td", {}, text));
      return make("tr", { "data-id": job.id, "data-state": job.state }, state, ...cells, make("td", { class: "m-actions" }, ...buttons));
    };
    const draw = () => {
      const jobs = props.value.jobs;
      if (!jobs.length) return element.replaceChildren(make("p", { class: "m-note" }, "No jobs yet."));
      const head = ["State", "Kind", "About", "LoRAs", "Method", "Pictures", "Asked for", "Actions"].map((text) => make("th", { scope: "col" }, text));
      const table = make("table", { class: "m-table" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...jobs.map(row)));
      element.replaceChildren(make("div", { class: "m-scroll", tabindex: "0", role: "region", "aria-label": "Jobs" }, table));
    };
    watch("value", draw);
    draw();
  };
})();
