"use strict";
// Starts the embedded views when they come into sight; where that fails, the picture beneath stays and says so.
{
  const bytes = (element) => Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  let program;
  const load = async () => {
    const packed = new Blob([bytes(document.querySelector(".view-program"))]);
    const text = await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
    const script = document.createElement("script");
    script.textContent = text;
    document.head.append(script);
  };
  const show = async (root) => {
    try {
      program ??= load();
      await program;
      await window.splatView(root, bytes(root.querySelector(".view-cloud")), JSON.parse(root.dataset.view3d));
      root.classList.add("live");
    } catch (error) {
      root.querySelector(".quiet").textContent = `This browser cannot turn the cloud (${error.message}); a picture of it.`;
      root.querySelector("canvas").remove();
    }
  };
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watch.unobserve(entry.target);
      show(entry.target);
    }
  });
  for (const root of document.querySelectorAll(".view3d")) watch.observe(root);
}
