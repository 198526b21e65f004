// The picture in the making: previews, a bar, words. It hears of a job from the server, event by event.
// value: {jobs: [id]}: this page's jobs that are not over, the next one first
(() => {
  const { make } = window.medley;
  const NARROW = 640; // pixels, as in page.css

  const seconds = (left) => (left === null || left === undefined ? "" : left < 1 ? ", under 1 s left" : `, about ${Math.round(left)} s left`);

  const sentence = (now) => {
    if (now.state === "waiting") return now.ahead ? `Waiting; ${now.ahead} ${now.ahead === 1 ? "job" : "jobs"} before it.` : "Next in line.";
    if (now.state === "running") {
      const which = now.pictures > 1 ? `, ${now.done} of ${now.pictures} pictures done` : "";
      return now.steps ? `Step ${now.step} of ${now.steps}${which}${seconds(now.seconds_left)}` : "Preparing…";
    }
    if (now.error) return `Failed: ${now.error}`;
    if (now.state === "cancelled") return "Cancelled.";
    return now.told || "Done.";
  };

  const share = (now) => {
    if (now.state !== "running" || !now.steps) return now.state === "done" ? 1 : 0;
    return Math.min(1, (now.done + (now.step / now.steps) * Math.min(now.together || 1, now.pictures - now.done)) / now.pictures);
  };

  window.medley.parts.live = (element, props, trigger, watch) => {
    const pictures = make("div", { class: "m-previews" });
    const found = make("div", { class: "m-gallery m-findings", role: "group", "aria-label": "What the method has found so far" });
    const fill = make("span");
    const bar = make("div", { class: "m-progress", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100, hidden: true }, fill);
    const words = make("p", { class: "m-status", role: "status", "aria-live": "polite" });
    element.append(pictures, found, bar, words);
    let source = null;
    let following = null;
    let known = false; // whether the plan is drawn as the prompt has decided it
    let queue = [...(props.value?.jobs || [])];
    const gone = new Set();

    // The plan of the job under way, which the server draws: the step it is at is marked there.
    const mark = (now) => {
      const plan = document.getElementById(`${element.closest(".block").id}_plan`);
      if (!plan) return;
      plan.hidden = !["waiting", "running"].includes(now.state);
      const place = now.state === "running" && now.steps ? now.step - 1 : -2;
      plan.querySelectorAll(".m-now").forEach((one) => one.setAttribute("x", place));
    };

    // Masks and the like, which sharpen from step to step: the figures stay, their pictures change.
    const see = (findings) => {
      while (found.children.length > findings.length) found.lastChild.remove();
      findings.forEach(([name, address], place) => {
        if (!found.children[place]) found.append(make("figure", {}, make("img", { class: "m-pixel", alt: "" }), make("figcaption", {})));
        const [image, caption] = found.children[place].children;
        image.src = address;
        caption.textContent = name;
      });
    };

    const draw = (now) => {
      mark(now);
      if (now.known && !known) trigger("follow", { id: following });
      known = Boolean(now.known);
      const shown = now.previews || [];
      if (now.state === "running" && shown.length) {
        while (pictures.children.length > shown.length) pictures.lastChild.remove();
        shown.forEach((address, place) => {
          if (!pictures.children[place]) pictures.append(make("img", { alt: `Preview ${place + 1}` }));
          pictures.children[place].src = address;
        });
        pictures.dataset.frame = now.frame;
      } else if (now.state !== "running") pictures.replaceChildren();
      see(now.findings || []);
      const percent = Math.round(share(now) * 100);
      bar.hidden = now.state !== "running" && now.state !== "waiting";
      bar.setAttribute("aria-valuenow", percent);
      fill.style.width = `${percent}%`;
      const more = queue.length - 1;
      words.textContent = sentence(now) + (more > 0 ? ` ${more} more of yours ${more === 1 ? "is" : "are"} waiting.` : "");
      words.classList.toggle("m-error", Boolean(now.error));
      words.dataset.state = now.state;
    };

    const over = (id) => {
      source.close();
      following = null;
      gone.add(id);
      queue = queue.filter((one) => one !== id);
      props.value = { jobs: queue };
      trigger("done", { id });
      follow();
    };

    const follow = () => {
      const next = queue[0];
      if (next === following) return;
      source?.close();
      following = next;
      if (!next) return;
      trigger("follow", { id: next });
      if (window.innerWidth <= NARROW) element.scrollIntoView({ block: "center", behavior: "smooth" }); // it is far below the button
      source = new EventSource(`medley/jobs/${encodeURIComponent(next)}`);
      source.onmessage = (event) => {
        const now = JSON.parse(event.data);
        draw(now);
        if (!["waiting", "running"].includes(now.state)) over(next);
      };
    };
    // Answers to quick presses may come in any order, so what is new is added and nothing is forgotten.
    watch("value", () => {
      const fresh = (props.value?.jobs || []).filter((one) => !queue.includes(one) && !gone.has(one));
      queue = [...queue, ...fresh];
      props.value = { jobs: queue };
      follow();
    });
    follow();
  };
})();
